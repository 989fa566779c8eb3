create or replace function persona.get_executions(span interval default '1 hour', max_rows integer default 2000)
returns table (
  runner_name text, job_id uuid, short_id text, job_type text, agent text, outcome text, started_at timestamptz,
  ended_at timestamptz, task_preview text)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
  perform persona._check_span(get_executions.span);
  if get_executions.max_rows is null or get_executions.max_rows not between 1 and 10000 then
    perform persona._invalid('max_rows', get_executions.max_rows::text, '1 to 10000 is allowed');
  end if;
  return query
    with execution as (
      (select coalesce(r.name, 'an outside driver') as runner_name, l.job_id, null::text as outcome,
        l.claimed_at as started_at, null::timestamptz as ended_at
      from persona.job_leases as l
      left join persona.runners as r on r.id = l.runner_id
      order by l.claimed_at desc limit get_executions.max_rows)
      union all
      (select coalesce(a.runner_name, 'an outside driver'), a.job_id, a.outcome, a.started_at, a.ended_at
      from persona.job_attempts as a where a.ended_at >= now() - get_executions.span
      order by a.ended_at desc limit get_executions.max_rows)
    )
    select e.runner_name, e.job_id, j.short_id, j.job_type, j.agent, e.outcome, e.started_at, e.ended_at,
      persona._task_preview(j.payload)
    from execution as e
    left join persona.jobs as j on j.id = e.job_id
    order by coalesce(e.ended_at, now()) desc, e.started_at desc
    limit get_executions.max_rows;
end $$;
comment on function persona.get_executions(interval, integer) is
  'Viewer API. Executions that run (without outcome and ended_at) or have ended within the span, the latest first, each with its runner. PJ422.';
