-- What came and what ended, bucket by bucket, read through the arrival indexes. The depth of the queue is reckoned
-- back from what is pending now.
create or replace function persona.get_throughput(span interval default '24 hours', buckets integer default 96)
returns table (
  at timestamptz, created bigint, completed bigint, failed bigint, otherwise bigint, pending bigint)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_since constant timestamptz := persona._first_bucket(get_throughput.span, get_throughput.buckets);
  v_width constant interval := get_throughput.span / get_throughput.buckets;
  v_pending bigint := (select count(*) from persona.job_queue);
begin
  return query
    with happened as (
      select j.created_at as at, 1 as created, (j.attention is distinct from 'blocked')::integer as came,
        0 as completed, 0 as failed, 0 as otherwise
      from persona.jobs as j where j.created_at >= v_since
      union all
      select j.completed_at, 0, -1, 0, (j.status = 'failed')::integer, 0 from persona.jobs as j
      where j.created_at >= v_since and j.ended_xid is not null
      union all
      select a.started_at, 0, -1, 0, 0, 0 from persona.job_attempts as a
      where a.ended_at >= v_since and a.started_at >= v_since
      union all
      select l.claimed_at, 0, -1, 0, 0, 0 from persona.job_leases as l where l.claimed_at >= v_since
      union all
      -- Back into the queue: it waits for its next execution, or has had it.
      select a.ended_at, 0, coalesce(j.status = 'pending' or j.lease > a.lease, false)::integer,
        (a.outcome = 'completed')::integer,
        (a.outcome in ('failed', 'timeout', 'idle_timeout', 'orphaned'))::integer,
        (a.outcome in ('cancelled', 'held', 'rate_limited', 'given_back'))::integer
      from persona.job_attempts as a
      left join persona.jobs as j on j.id = a.job_id and a.outcome <> 'completed'
      where a.ended_at >= v_since
    ), counted as (
      select b.at, coalesce(sum(h.created), 0) as created, coalesce(sum(h.came), 0) as came,
        coalesce(sum(h.completed), 0) as completed, coalesce(sum(h.failed), 0) as failed,
        coalesce(sum(h.otherwise), 0) as otherwise
      from generate_series(v_since, now(), v_width) as b (at)
      left join (
        select date_bin(v_width, e.at, v_since) as bucket, sum(e.created) as created,
          sum(e.came) as came, sum(e.completed) as completed, sum(e.failed) as failed, sum(e.otherwise) as otherwise
        from happened as e group by 1) as h on h.bucket = b.at
      group by b.at
    )
    select c.at, c.created::bigint, c.completed::bigint, c.failed::bigint, c.otherwise::bigint,
      greatest(0, v_pending - coalesce(sum(c.came) over (
        order by c.at rows between 1 following and unbounded following), 0))::bigint
    from counted as c
    order by c.at;
end $$;
comment on function persona.get_throughput(interval, integer) is
  'Viewer API. Jobs created, executions that completed, failed or were ended otherwise (cancelled, held, given back, rate limited), and jobs pending at the end of each bucket (reckoned back from now), oldest first. PJ422.';
