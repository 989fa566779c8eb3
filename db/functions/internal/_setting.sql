create or replace function persona._setting(p_name text) returns text
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select s.value #>> '{}' from persona.settings as s where s.name = p_name;
$$;
comment on function persona._setting(text) is 'Internal. Value of a setting as text.';
