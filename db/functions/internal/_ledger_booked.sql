-- Whatever is booked, by whom it may be, counts in the sums that budgets read, and in those by day.
create or replace function persona._ledger_booked() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  insert into persona.cost_fresh (day, agent, business, booked_usd, job_type, model)
  values ((new.at at time zone 'UTC')::date, new.agent, coalesce(new.business, ''), new.amount_usd,
    coalesce(new.job_type, ''), coalesce(new.model, ''));
  return null;
end $$;
comment on function persona._ledger_booked() is 'Trigger. Puts what is booked into cost_fresh.';

create or replace trigger ledger_booked after insert on persona.cost_ledger
for each row when (new.kind = 'booked') execute function persona._ledger_booked();
