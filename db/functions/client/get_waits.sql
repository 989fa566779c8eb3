-- How old jobs were when they started. An execution was ready from its job's creation, its due time, or the end of
-- the execution before it, whichever came last.
create or replace function persona.get_waits(span interval default '24 hours', buckets integer default 96)
returns table (at timestamptz, started bigint, p50_seconds double precision, max_seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_since constant timestamptz := persona._first_bucket(get_waits.span, get_waits.buckets);
  v_width constant interval := get_waits.span / get_waits.buckets;
begin
  return query
    with started as (
      select a.job_id, a.started_at as at from persona.job_attempts as a
      where a.ended_at >= v_since and a.started_at >= v_since
      union all
      select l.job_id, l.claimed_at from persona.job_leases as l where l.claimed_at >= v_since
    ), waited as (
      select date_bin(v_width, s.at, v_since) as bucket,
        extract(epoch from s.at - greatest(j.created_at, case when j.run_at <= s.at then j.run_at end,
          lag(s.at) over (partition by s.job_id order by s.at)))::double precision as seconds
      from started as s
      join persona.jobs as j on j.id = s.job_id
    )
    select b.at, count(w.seconds), percentile_cont(0.5) within group (order by w.seconds), max(w.seconds)
    from generate_series(v_since, now(), v_width) as b (at)
    left join waited as w on w.bucket = b.at
    group by b.at
    order by b.at;
end $$;
comment on function persona.get_waits(interval, integer) is
  'Viewer API. How many executions started in each bucket, and how long they had waited (median and longest), oldest first. PJ422.';
