create or replace function persona.runner_directive(runner_id uuid) returns text
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select case when r.drain_requested_at is null then 'run' else 'drain' end
  from persona._runner(runner_directive.runner_id) as r;
$$;
comment on function persona.runner_directive(uuid) is
  'Runner API. What the runner is asked to do: run or drain. PJ410 where it is not registered any more.';
