create or replace view persona.job_statistics as
select j.job_type,
  count(*) as total,
  count(*) filter (where j.status = 'completed') as completed,
  count(*) filter (where j.status = 'failed') as failed,
  count(*) filter (where j.status = 'cancelled') as cancelled,
  round(count(*) filter (where j.status = 'completed')
    / nullif(count(*) filter (where j.status in ('completed', 'failed')), 0)::numeric, 3) as success_rate,
  round(avg(d.seconds)::numeric, 2) as mean_seconds,
  round((percentile_cont(0.5) within group (order by d.seconds))::numeric, 2) as p50_seconds,
  round((percentile_cont(0.95) within group (order by d.seconds))::numeric, 2) as p95_seconds,
  sum(j.cost_usd) as cost_usd
from persona.jobs as j
cross join lateral (
  select case when j.status in ('completed', 'failed')
    then extract(epoch from j.completed_at - j.started_at) end::double precision as seconds) as d
group by j.job_type;
comment on view persona.job_statistics is 'Counts, success rate and durations by job type, over all jobs still stored.';
comment on column persona.job_statistics.success_rate is 'completed / (completed + failed).';
comment on column persona.job_statistics.mean_seconds is 'Mean duration of the last execution of completed and failed jobs.';
comment on column persona.job_statistics.job_type is 'What kind of work; see job_types.';
comment on column persona.job_statistics.total is 'Jobs of this type.';
comment on column persona.job_statistics.completed is 'Of these, completed.';
comment on column persona.job_statistics.failed is 'Of these, failed.';
comment on column persona.job_statistics.cancelled is 'Of these, cancelled.';
comment on column persona.job_statistics.p50_seconds is 'Median of those durations.';
comment on column persona.job_statistics.p95_seconds is '95th percentile of those durations.';
comment on column persona.job_statistics.cost_usd is 'Their cost in US dollars.';
