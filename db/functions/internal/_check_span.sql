create or replace function persona._check_span(p_span interval) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if p_span is null or p_span not between interval '1 minute' and interval '366 days' then
    perform persona._invalid('span', p_span::text, '1 minute to 366 days is allowed');
  end if;
end $$;
comment on function persona._check_span(interval) is 'Internal. Refuses a look back over no time, or over years.';
