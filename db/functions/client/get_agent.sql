create or replace function persona.get_agent(name text) returns persona.agents
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_agent persona.agents;
begin
  select * into v_agent from persona.agents as a where a.name = get_agent.name;
  if not found then
    perform persona._raise('PJ404', format('no agent "%s"', get_agent.name),
      jsonb_build_object('agent', get_agent.name),
      format('Registered are: %s.', (select string_agg(a.name, ', ' order by a.name) from persona.agents as a)));
  end if;
  return v_agent;
end $$;
comment on function persona.get_agent(text) is 'Viewer API. The row of an agent. PJ404.';
