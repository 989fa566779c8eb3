create or replace function persona.set_agent_active(name text, active boolean) returns persona.agents
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select persona.update_agent(set_agent_active.name, jsonb_build_object('is_active', set_agent_active.active));
$$;
comment on function persona.set_agent_active(text, boolean) is
  'Admin API. Enables or disables an agent; the jobs of a disabled one wait. PJ422.';
