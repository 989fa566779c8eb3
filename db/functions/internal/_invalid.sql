-- The one way to refuse an argument: names it, shows the value (cut), says what is allowed.
create or replace function persona._invalid(p_argument text, p_value text, p_allowed text)
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._raise(
    'PJ422',
    format('%s is %s: %s', p_argument,
      coalesce('"' || left(p_value, 100) || case when length(p_value) > 100 then '...' else '' end || '"', 'missing'),
      p_allowed),
    jsonb_build_object('argument', p_argument, 'value', left(p_value, 1000), 'allowed', p_allowed),
    null);
end $$;
comment on function persona._invalid(text, text, text) is 'Internal. Raises PJ422 for one argument.';
