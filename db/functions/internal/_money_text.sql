create or replace function persona._money_text(p_usd numeric) returns text
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select case when p_usd < 0 then '-$' else '$' end
    || to_char(abs(p_usd), case when p_usd <> 0 and abs(p_usd) < 0.1 then 'FM999999990.00##' else 'FM999999990.00' end);
$$;
comment on function persona._money_text(numeric) is 'Internal. US dollars for people.';
