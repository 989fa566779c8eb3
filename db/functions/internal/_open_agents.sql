-- The agents of which a runner may start jobs right now, apart from limits.
create or replace function persona._open_agents(p_agents text[])
returns setof persona.agents
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select a.* from persona.agents as a
  where a.is_active and not a.is_external
    and (p_agents is null or a.name = any(p_agents))
    and not exists (
      select from persona.gates as g
      where g.provider = a.provider and g.state <> 'open' and (g.reopens_at is null or g.reopens_at > now()));
$$;
comment on function persona._open_agents(text[]) is 'Internal. Active agents, of those given (null: all), whose provider is open.';
