create or replace function persona._bridge_number(p_name text, p_text text, p_default integer, p_most integer)
returns integer
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if p_text is null then
    return p_default;
  elsif p_text !~ '^\d{1,9}(\.0*)?$' or trunc(p_text::numeric) not between 1 and p_most then
    perform persona._invalid(p_name, p_text, format('a whole number from 1 to %s is needed', p_most));
  end if;
  return trunc(p_text::numeric)::integer;
end $$;
comment on function persona._bridge_number(text, text, integer, integer) is
  'Internal. An argument of the bridge that is a number; the default where it is empty. PJ422.';
