-- The sums that a claim reads stay short: what was booked since the last time moves into the totals, in one statement,
-- so that every reader finds it in one place or the other.
create or replace function persona._total_costs() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  with moved as (
    delete from persona.cost_fresh as f
    where f.id = any(array(
      select o.id from persona.cost_fresh as o order by o.id limit 100000 for update skip locked))
    returning f.day, f.agent, f.business, f.job_type, f.model, f.booked_usd
  ), days as (
    insert into persona.cost_days as d (day, agent, job_type, business, model, booked_usd, executions)
    select m.day, m.agent, m.job_type, m.business, m.model, sum(m.booked_usd), count(*)
    from moved as m group by 1, 2, 3, 4, 5
    on conflict (day, agent, job_type, business, model) do update
    set booked_usd = d.booked_usd + excluded.booked_usd, executions = d.executions + excluded.executions
  )
  insert into persona.cost_totals as t (day, agent, business, booked_usd)
  select m.day, m.agent, m.business, sum(m.booked_usd) from moved as m group by 1, 2, 3
  on conflict (day, agent, business) do update set booked_usd = t.booked_usd + excluded.booked_usd;
end $$;
comment on function persona._total_costs() is 'Internal. Moves bookings from cost_fresh to cost_totals and cost_days.';
