create or replace view persona.agent_workload as
select a.name as agent, a.is_active, a.is_external,
  coalesce(w.pending, 0) as pending,
  (select count(*) from persona.job_leases as l where l.agent = a.name) as running,
  a.max_concurrent,
  coalesce(d.completed, 0) as completed_24h,
  coalesce(d.failed, 0) as failed_24h,
  a.argv[1] as program, a.description
from persona.agents as a
left join (select q.agent, count(*) as pending from persona.job_queue as q group by q.agent) as w on w.agent = a.name
left join (
  -- By the executions of the day, found through their arrival index, and the few ends without one: history that grows
  -- costs nothing.
  select j.agent, count(*) filter (where j.status = 'completed') as completed,
    count(*) filter (where j.status = 'failed') as failed
  from (
    select e.job_id from persona.job_attempts as e
    where e.ended_at > now() - interval '24 hours'
    union
    select f.id from persona.jobs as f where f.ended_xid is not null and f.completed_at > now() - interval '24 hours'
  ) as day
  join persona.jobs as j on j.id = day.job_id
  where j.completed_at > now() - interval '24 hours'
  group by j.agent
) as d on d.agent = a.name;
comment on view persona.agent_workload is 'Every agent with what waits, what runs, and how the last day went.';
comment on column persona.agent_workload.pending is 'Jobs that wait, delayed ones included.';
comment on column persona.agent_workload.running is 'Jobs that run, on all machines.';
comment on column persona.agent_workload.agent is 'Name of the agent.';
comment on column persona.agent_workload.is_active is 'False: its jobs wait.';
comment on column persona.agent_workload.is_external is 'True: no runner claims its jobs; a program outside drives them through the bridge.';
comment on column persona.agent_workload.max_concurrent is 'Most jobs of this agent running at once on all machines together; null: no limit.';
comment on column persona.agent_workload.completed_24h is 'Jobs completed in the last 24 hours.';
comment on column persona.agent_workload.failed_24h is 'Jobs that ended in failed in the last 24 hours.';
comment on column persona.agent_workload.program is 'First element of its argv.';
comment on column persona.agent_workload.description is 'What it is for, in a sentence.';
