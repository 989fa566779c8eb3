create or replace function persona._limit_names(
  p_job_type text, p_limit_key text, p_session_id text) returns text[]
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select array(
    select l.name from persona.limits as l
    where l.name = any(array['total', 'type:' || p_job_type, 'key:' || p_limit_key])
    union all
    select 'conversation:' || p_session_id where p_session_id is not null);
$$;
comment on function persona._limit_names(text, text, text) is
  'Internal. What a job counts against while it runs: limits that are set, and its conversation, which has room for one.';
