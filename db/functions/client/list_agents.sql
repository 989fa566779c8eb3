create or replace function persona.list_agents() returns setof persona.agent_workload
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select w.* from persona.agent_workload as w order by w.agent;
$$;
comment on function persona.list_agents() is 'Viewer API. All agents with their load.';
