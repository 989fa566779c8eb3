create or replace function persona._unknown_agent(p_argument text, p_agent text) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._invalid(p_argument, p_agent, format('registered are: %s',
    (select string_agg(a.name, ', ' order by a.name) from persona.agents as a)));
end $$;
comment on function persona._unknown_agent(text, text) is
  'Internal. Raises PJ422 for an argument that should name an agent, with those that there are.';
