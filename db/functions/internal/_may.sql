create or replace function persona._may(p_function text) returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select coalesce(bool_or(has_function_privilege(persona._caller(), p.oid, 'execute')), false)
  from pg_proc as p
  where p.pronamespace = 'persona'::regnamespace and p.proname = p_function;
$$;
comment on function persona._may(text) is 'Internal. May the caller execute the function of that name?';
