create or replace function persona.get_failures(span interval default '24 hours')
returns table (
  failure_kind text, executions bigint, jobs bigint, last_at timestamptz, last_job_id uuid, last_error text)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
  perform persona._check_span(get_failures.span);
  return query
    select f.kind, count(*), count(distinct f.job_id), max(f.ended_at),
      (array_agg(f.job_id order by f.ended_at desc))[1], left((array_agg(f.error order by f.ended_at desc))[1], 300)
    from (
      select coalesce(a.failure_kind, a.outcome) as kind, a.job_id, a.ended_at, a.error
      from persona.job_attempts as a
      where a.ended_at >= now() - get_failures.span and a.outcome in (
        'failed', 'timeout', 'idle_timeout', 'orphaned', 'rate_limited')) as f
    group by f.kind
    order by 2 desc, 1;
end $$;
comment on function persona.get_failures(interval) is
  'Viewer API. Executions that did not end well within the span, by kind of failure, the most frequent first; with the latest of each. PJ422.';
