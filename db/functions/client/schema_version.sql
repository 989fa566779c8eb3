create or replace function persona.schema_version() returns integer
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select max(left(m.name, 4)::integer) from persona.schema_migrations as m;
$$;
comment on function persona.schema_version() is 'Viewer API. Number of the newest migration that has run.';
