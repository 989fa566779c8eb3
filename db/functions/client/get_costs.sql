-- From the sums by day, and what the tick has not moved there yet: one statement, so each booking is in one of both.
create or replace function persona.get_costs(days integer default 30)
returns table (
  day date, agent text, job_type text, business text, model text, cost_usd numeric, executions bigint)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
declare
  v_since date;
  v_mine constant text[] := persona.my_tenants();
begin
  if get_costs.days is null or get_costs.days not between 1 and 366 then
    perform persona._invalid('days', get_costs.days::text, '1 to 366 is allowed');
  end if;
  v_since := (now() at time zone 'UTC')::date - (get_costs.days - 1);
  return query
    select c.day, c.agent, coalesce(nullif(c.job_type, ''), 'cleaned up'), nullif(c.business, ''), nullif(c.model, ''),
      sum(c.booked_usd), sum(c.executions)::bigint
    from (
      select d.day, d.agent, d.job_type, d.business, d.model, d.booked_usd, d.executions from persona.cost_days as d
      union all
      select f.day, f.agent, f.job_type, f.business, f.model, f.booked_usd, 1 from persona.cost_fresh as f) as c
    where c.day >= v_since and (v_mine is null or c.business = any(v_mine))
    group by 1, 2, 3, 4, 5
    order by 1 desc, 6 desc;
end $$;
comment on function persona.get_costs(integer) is
  'Viewer API. Money spent in the last days (UTC, today included) by day, agent, job type, business and model. PJ422.';
