-- Raises one of our errors: a message for people, a JSON detail for programs, a hint that says what to do.
-- Volatile, so that no planner evaluates a call with constant arguments ahead of time.
create or replace function persona._raise(p_sqlstate text, p_message text, p_detail jsonb, p_hint text)
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  raise exception using
    errcode = p_sqlstate, message = p_message,
    detail = coalesce(p_detail, '{}')::text, hint = coalesce(p_hint, '');
end $$;
comment on function persona._raise(text, text, jsonb, text) is 'Internal. Raises an error of class PJ.';
