-- What has happened to jobs, from what is stored anyway, together with what callers published.
create or replace view persona.job_events as
select e.created_at as at, e.event_type, e.job_id, coalesce(e.source, 'unknown') as source, e.trace_id, e.data,
  e.id as event_id
from persona.events as e
union all
select j.created_at, 'job.created', j.id, 'persona', null,
  jsonb_build_object('type', j.job_type, 'agent', j.agent), null
from persona.jobs as j
union all
select l.claimed_at, 'job.started', l.job_id, 'persona', null, jsonb_build_object('lease', l.lease), null
from persona.job_leases as l
union all
select a.started_at, 'job.started', a.job_id, 'persona', null,
  jsonb_build_object('lease', a.lease, 'attempt', a.attempt, 'runner', a.runner_name), null
from persona.job_attempts as a
union all
select a.ended_at, 'job.' || a.outcome, a.job_id, 'persona', null,
  jsonb_strip_nulls(jsonb_build_object('lease', a.lease, 'attempt', a.attempt, 'runner', a.runner_name,
    'exitCode', a.exit_code, 'error', a.error)), null
from persona.job_attempts as a
union all
-- An end that no execution stands behind: cancelled or failed before it ran.
select j.completed_at, 'job.' || j.status, j.id, 'persona', null,
  jsonb_strip_nulls(jsonb_build_object('error', j.error)), null
from persona.jobs as j
where j.status in ('completed', 'failed', 'cancelled') and not exists (
  select from persona.job_attempts as a
  where a.job_id = j.id and a.lease = j.lease and a.ended_at = j.completed_at);
comment on view persona.job_events is
  'Life-cycle events of jobs (source persona) and published events, one row each. Ask for one job_id at a time.';
comment on column persona.job_events.at is 'When it happened.';
comment on column persona.job_events.event_type is 'job.created, job.started, job. and the outcome of an execution, or what the publisher called it.';
comment on column persona.job_events.job_id is 'Job it is about.';
comment on column persona.job_events.source is 'persona for what the queue itself recorded, else the publisher.';
comment on column persona.job_events.trace_id is 'Trace of the publisher.';
comment on column persona.job_events.data is 'Details.';
comment on column persona.job_events.event_id is 'events.id of a published one.';
