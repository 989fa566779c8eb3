-- Budgets count in UTC days, as the ledger does: a session's time zone must not move money from one day to another.
create or replace function persona._period_start(p_period text) returns date
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return case p_period
    when 'day' then (now() at time zone 'UTC')::date
    when 'month' then date_trunc('month', now() at time zone 'UTC')::date
    else '-infinity'
  end;
end $$;
comment on function persona._period_start(text) is 'Internal. First UTC day of the budget period (total, day, month) that is running.';
