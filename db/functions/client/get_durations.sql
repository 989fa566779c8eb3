-- Of more than 20,000 executions, from the sums by the hour: within a tenth. Of fewer they are read, and it is exact.
create or replace function persona.get_durations(span interval default '24 hours')
returns table (
  job_type text, executions bigint, p50_seconds double precision, p90_seconds double precision,
  p99_seconds double precision, max_seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_hour constant timestamptz := date_bin('1 hour', now() - get_durations.span, timestamptz '2000-01-01 00:00Z');
begin
  perform persona._check_span(get_durations.span);
  if get_durations.span >= interval '12 hours' and persona._is_summed(v_hour, interval '1 hour')
    and persona._is_much(v_hour)
  then
    return query
      with bins as (
        select t.job_type, t.bin, sum(t.executions) as n, max(t.longest) as longest
        from (
          select a.* from persona.activity_times as a where a.kind = 'ran' and a.at >= v_hour
          union all
          select f.* from persona.activity_cursor as c
          cross join lateral persona._took(c.counted_xid, 9223372036854775807, c.restored_at, 'infinity') as f
          where f.kind = 'ran') as t
        group by 1, 2
      )
      select p.job_type, p.n::bigint, p.p[1], p.p[2], p.p[3], p.longest
      from (
        select b.job_type, sum(b.n) as n, max(b.longest) as longest,
          persona._percentiles(array_agg(b.bin order by b.bin), array_agg(b.n order by b.bin),
            array_agg(b.longest order by b.bin), array[0.5, 0.9, 0.99]) as p
        from bins as b group by 1) as p
      order by p.n desc, p.job_type;
    return;
  end if;
  return query
    select e.job_type, e.n, e.p[1], e.p[2], e.p[3], e.p[4]
    from (
      select j.job_type, count(*) as n, percentile_cont(array[0.5, 0.9, 0.99, 1.0]::double precision[])
        within group (order by extract(epoch from a.ended_at - a.started_at)::double precision) as p
      from persona.job_attempts as a
      join persona.jobs as j on j.id = a.job_id
      where a.ended_at >= now() - get_durations.span and a.is_counted
      group by j.job_type) as e
    order by e.n desc, e.job_type;
end $$;
comment on function persona.get_durations(interval) is
  'Viewer API. Percentiles of how long counted executions of each job type took, the type with the most of them first; of more than 20,000 within a tenth, from the full hour on. PJ422.';
