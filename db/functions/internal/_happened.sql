-- What came and what ended, from the records themselves. Each record is taken by its transaction and its own time; an
-- execution brings its start along, however long ago that was. So whoever takes all records behind a place, in pieces,
-- has each event once.
create or replace function persona._happened(
  p_from bigint, p_to bigint, p_since timestamptz, p_until timestamptz, p_width interval
) returns table (
  at timestamptz, agent text, created bigint, came bigint, completed bigint, failed bigint, otherwise bigint,
  jobs_failed bigint)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  return query
    select date_bin(p_width, h.at, timestamptz '2000-01-01 00:00Z'), h.agent, sum(h.created)::bigint,
      sum(h.came)::bigint, sum(h.completed)::bigint, sum(h.failed)::bigint, sum(h.otherwise)::bigint,
      sum(h.jobs_failed)::bigint
    from (
      select j.created_at as at, j.agent, 1 as created, 1 as came,
        0 as completed, 0 as failed, 0 as otherwise, 0 as jobs_failed
      from persona.jobs as j
      where j.created_xid >= p_from and j.created_xid < p_to and j.created_at >= p_since and j.created_at < p_until
      union all
      -- Without an execution. Of long ago, those that had not waited for more than a day.
      select j.completed_at, j.agent, 0, -1, 0, (j.status = 'failed')::integer, 0, (j.status = 'failed')::integer
      from persona.jobs as j
      where j.ended_xid >= p_from and j.ended_xid < p_to and j.completed_at >= p_since and j.completed_at < p_until
        and j.created_at >= p_since - interval '1 day'
      union all
      select e.at, coalesce(j.agent, ''), 0,
        -- Back into the queue: it waits for its next execution, or has had it.
        case when e.is_start then -1 else coalesce(j.status = 'pending' or j.lease > a.lease, false)::integer end,
        (not e.is_start and a.outcome = 'completed')::integer,
        (not e.is_start and a.outcome in ('failed', 'timeout', 'idle_timeout', 'orphaned'))::integer,
        (not e.is_start and a.outcome in ('cancelled', 'held', 'rate_limited', 'given_back'))::integer,
        coalesce(not e.is_start and j.status = 'failed' and j.ended_lease = a.lease, false)::integer
      from persona.job_attempts as a
      left join persona.jobs as j on j.id = a.job_id
      cross join lateral (values (a.started_at, true), (a.ended_at, false)) as e (at, is_start)
      where a.ended_xid >= p_from and a.ended_xid < p_to and a.ended_at >= p_since and a.ended_at < p_until) as h
    group by 1, 2;
end $$;
comment on function persona._happened(bigint, bigint, timestamptz, timestamptz, interval) is
  'Internal. What came and what ended, in buckets so wide and by agent, from records of transactions from p_from on and below p_to, and of times from p_since on and before p_until.';
