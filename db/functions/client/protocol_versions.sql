create or replace function persona.protocol_versions()
returns table (min_protocol integer, max_protocol integer)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select persona._setting('min_protocol')::integer, persona._setting('max_protocol')::integer;
$$;
comment on function persona.protocol_versions() is 'Viewer API. Oldest and newest runner protocol that this schema serves.';
