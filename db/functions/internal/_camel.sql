create or replace function persona._camel(p_name text) returns text
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select lower(left(w.name, 1)) || substr(w.name, 2)
  from (select replace(initcap(replace(p_name, '_', ' ')), ' ', '') as name) as w;
$$;
comment on function persona._camel(text) is 'Internal. snake_case as camelCase.';
