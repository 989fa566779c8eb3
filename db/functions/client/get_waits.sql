-- How old jobs were when they started. An execution was ready from its job's creation, its due time, or the end of
-- the execution before it, whichever came last. Of more than 20,000 executions the medians are from the sums by the
-- quarter of an hour, within a tenth; of fewer they are read, and it is exact.
create or replace function persona.get_waits(span interval default '24 hours', buckets integer default 96)
returns table (at timestamptz, started bigint, p50_seconds double precision, max_seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_since constant timestamptz := persona._first_bucket(get_waits.span, get_waits.buckets);
  v_width constant interval := get_waits.span / get_waits.buckets;
begin
  if mod(extract(epoch from v_width), 900) = 0 and persona._is_summed(v_since, v_width) and persona._is_much(v_since) then
    return query
      with waited as (
        select date_bin(v_width, w.at, v_since) as bucket, w.bin, sum(w.executions) as n, max(w.longest) as longest
        from (
          select t.at, t.bin, t.executions, t.longest from persona.activity_times as t
          where t.kind = 'waited' and t.at >= v_since
          union all
          select f.at, f.bin, f.executions, f.longest from persona.activity_cursor as c
          cross join lateral persona._took(c.counted_xid, 9223372036854775807, c.restored_at, 'infinity') as f
          where f.kind = 'waited' and f.at >= v_since
          union all
          select l.claimed_at, persona._bin(s.seconds), 1, s.seconds
          from persona.job_leases as l
          join persona.jobs as j on j.id = l.job_id
          cross join lateral (
            select extract(epoch from l.claimed_at - greatest(j.created_at,
              case when j.run_at <= l.claimed_at then j.run_at end,
              (select max(b.ended_at) from persona.job_attempts as b where b.job_id = l.job_id)))::double precision
          ) as s (seconds)
          where l.claimed_at >= v_since) as w
        group by 1, 2
      ), counted as (
        select w.bucket, sum(w.n)::bigint as n, max(w.longest) as longest,
          persona._percentiles(array_agg(w.bin order by w.bin), array_agg(w.n order by w.bin),
            array_agg(w.longest order by w.bin), array[0.5]) as p
        from waited as w group by 1
      )
      select b.at, coalesce(c.n, 0), c.p[1], c.longest
      from generate_series(v_since, now(), v_width) as b (at)
      left join counted as c on c.bucket = b.at
      order by b.at;
    return;
  end if;
  return query
    with started as (
      select a.job_id, a.started_at as at, a.ended_at from persona.job_attempts as a
      where a.ended_at >= v_since
      union all
      select l.job_id, l.claimed_at, null from persona.job_leases as l
    ), waited as (
      select date_bin(v_width, s.at, v_since) as bucket,
        extract(epoch from s.at - greatest(j.created_at, case when j.run_at <= s.at then j.run_at end,
          lag(s.ended_at) over (partition by s.job_id order by s.at)))::double precision as seconds
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
  'Viewer API. How many executions started in each bucket, and how long they had waited (median and longest), oldest first. Of more than 20,000 executions medians are within a tenth. PJ422.';
