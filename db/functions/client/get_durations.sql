create or replace function persona.get_durations(span interval default '24 hours')
returns table (
  job_type text, executions bigint, p50_seconds double precision, p90_seconds double precision,
  p99_seconds double precision, max_seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
  perform persona._check_span(get_durations.span);
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
  'Viewer API. Percentiles of how long counted executions of each job type took, the type with the most of them first. PJ422.';
