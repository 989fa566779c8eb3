-- plpgsql, because it keeps its plan: as an SQL function it was planned at each call.
create or replace function persona._setting(p_name text) returns text
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return (select s.value #>> '{}' from persona.settings as s where s.name = p_name);
end $$;
comment on function persona._setting(text) is 'Internal. Value of a setting as text.';
