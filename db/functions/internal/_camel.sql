create or replace function persona._camel(p_name text) returns text
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  -- What has no underscore is one word, or camelCase already.
  select case when p_name not like '%\_%' then p_name
    else lower(left(w.name, 1)) || substr(w.name, 2) end
  from (select replace(initcap(replace(p_name, '_', ' ')), ' ', '') as name) as w;
$$;
comment on function persona._camel(text) is 'Internal. snake_case as camelCase.';
