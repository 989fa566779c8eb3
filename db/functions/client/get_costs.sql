create or replace function persona.get_costs(days integer default 30)
returns table (
  day date, agent text, job_type text, business text, model text, cost_usd numeric, executions bigint)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
  if get_costs.days is null or get_costs.days not between 1 and 366 then
    perform persona._invalid('days', get_costs.days::text, '1 to 366 is allowed');
  end if;
  return query
    select (c.at at time zone 'UTC')::date, c.agent, coalesce(c.job_type, 'cleaned up'), c.business, c.model,
      sum(c.amount_usd), count(*)
    from persona.cost_ledger as c
    where c.kind = 'booked'
      and c.at >= (date_trunc('day', now() at time zone 'UTC') - make_interval(days => get_costs.days - 1)) at time zone 'UTC'
    group by 1, 2, 3, 4, 5
    order by 1 desc, 6 desc;
end $$;
comment on function persona.get_costs(integer) is
  'Viewer API. Money spent in the last days (UTC, today included) by day, agent, job type, business and model. PJ422.';
