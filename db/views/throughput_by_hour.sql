create or replace view persona.throughput_by_hour as
select h.hour,
  sum(h.created) as created, sum(h.completed) as completed, sum(h.failed) as failed, sum(h.hung) as hung,
  round(sum(h.completed) / nullif(sum(h.completed) + sum(h.failed), 0)::numeric, 3) as completion_rate
from (
  select date_trunc('hour', j.created_at) as hour, 1 as created, 0 as completed, 0 as failed, 0 as hung
  from persona.jobs as j
  union all
  select date_trunc('hour', j.completed_at), 0, (j.status = 'completed')::integer, (j.status = 'failed')::integer, 0
  from persona.jobs as j where j.completed_at is not null
  union all
  select date_trunc('hour', a.ended_at), 0, 0, 0, 1 from persona.job_attempts as a where a.outcome = 'orphaned'
) as h
group by h.hour;
comment on view persona.throughput_by_hour is 'What was created and what ended in each hour, over all jobs still stored.';
comment on column persona.throughput_by_hour.hung is 'Executions that lost their runner.';
comment on column persona.throughput_by_hour.completion_rate is 'completed / (completed + failed).';
comment on column persona.throughput_by_hour.hour is 'Start of the hour.';
comment on column persona.throughput_by_hour.created is 'Jobs created in it.';
comment on column persona.throughput_by_hour.completed is 'Jobs completed in it.';
comment on column persona.throughput_by_hour.failed is 'Jobs that failed in it.';
