create or replace function persona._period_end(p_period text) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return case p_period
    when 'day' then (persona._period_start('day') + 1)::timestamp at time zone 'UTC'
    when 'month' then (persona._period_start('month') + interval '1 month') at time zone 'UTC'
  end;
end $$;
comment on function persona._period_end(text) is 'Internal. When the next period of a budget (total, day, month) begins; null: never.';
