create or replace view persona.agent_workload as
select a.name as agent, a.is_active, a.is_external,
  (select count(*) from persona.job_queue as q where q.agent = a.name) as pending,
  (select count(*) from persona.job_leases as l where l.agent = a.name) as running,
  a.max_concurrent,
  coalesce(d.completed, 0) as completed_24h,
  coalesce(d.failed, 0) as failed_24h,
  a.argv[1] as program, a.description
from persona.agents as a
left join (
  select j.agent, count(*) filter (where j.status = 'completed') as completed,
    count(*) filter (where j.status = 'failed') as failed
  from persona.jobs as j
  where j.completed_at > now() - interval '24 hours'
  group by j.agent
) as d on d.agent = a.name;
comment on view persona.agent_workload is 'Every agent with what waits, what runs, and how the last day went.';
comment on column persona.agent_workload.pending is 'Jobs that wait, delayed ones included.';
comment on column persona.agent_workload.running is 'Jobs that run, on all machines.';
