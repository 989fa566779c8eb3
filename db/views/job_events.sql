-- What has happened to jobs, from what is stored anyway, together with what callers published. xid, rank and number
-- give each event its place in the feed: see list_events.
create or replace view persona.job_events as
select e.created_at as at, e.event_type, e.job_id, coalesce(e.source, 'unknown') as source, e.trace_id, e.data,
  e.id as event_id, e.created_xid as xid, 5 as rank, e.id as number
from persona.events as e
union all
select j.created_at, 'job.created', j.id, 'persona', null,
  jsonb_build_object('type', j.job_type, 'agent', j.agent), null, j.created_xid, 1, j.seq
from persona.jobs as j
union all
select l.claimed_at, 'job.started', l.job_id, 'persona', null, jsonb_build_object('lease', l.lease), null,
  l.claimed_xid, 2, l.lease
from persona.job_leases as l
union all
select a.started_at, 'job.started', a.job_id, 'persona', null,
  jsonb_build_object('lease', a.lease, 'attempt', a.attempt, 'runner', a.runner_name), null, a.started_xid, 2, a.lease
from persona.job_attempts as a
union all
select a.ended_at, 'job.' || a.outcome, a.job_id, 'persona', null,
  jsonb_strip_nulls(jsonb_build_object('lease', a.lease, 'attempt', a.attempt, 'runner', a.runner_name,
    'exitCode', a.exit_code, 'error', a.error)), null, a.ended_xid, 3, a.lease
from persona.job_attempts as a
union all
-- An end that no execution stands behind: cancelled or failed before it ran.
select j.completed_at, 'job.' || j.status, j.id, 'persona', null,
  jsonb_strip_nulls(jsonb_build_object('error', j.error)), null, j.ended_xid, 4, j.seq
from persona.jobs as j
where j.ended_xid is not null
union all
-- The same of jobs that were imported, or ended before such an end had a place.
select j.completed_at, 'job.' || j.status, j.id, 'persona', null,
  jsonb_strip_nulls(jsonb_build_object('error', j.error)), null, j.created_xid, 4, j.seq
from persona.jobs as j
where j.ended_xid is null and j.status in ('completed', 'failed', 'cancelled') and not exists (
  select from persona.job_attempts as a
  where a.job_id = j.id and a.lease = j.lease and a.ended_at = j.completed_at);
comment on view persona.job_events is
  'Life-cycle events of jobs (source persona) and published events, one row each. Ask for one job_id at a time, or let list_events page through all.';
comment on column persona.job_events.at is 'When it happened: the start of its transaction.';
comment on column persona.job_events.event_type is 'job.created, job.started, job. and the outcome of an execution, or what the publisher called it.';
comment on column persona.job_events.job_id is 'Job it is about.';
comment on column persona.job_events.source is 'persona for what the queue itself recorded, else the publisher.';
comment on column persona.job_events.trace_id is 'Trace of the publisher.';
comment on column persona.job_events.data is 'Details.';
comment on column persona.job_events.event_id is 'events.id of a published one.';
comment on column persona.job_events.xid is 'Transaction that recorded it; 0: before events had a place.';
comment on column persona.job_events.rank is 'Order within a transaction: created, started, ended, ended without an execution, published.';
comment on column persona.job_events.number is 'Order among those of a rank: seq, lease or events.id.';
