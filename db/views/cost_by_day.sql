create or replace view persona.cost_by_day as
select (c.at at time zone 'UTC')::date as day, c.agent, c.business, c.model, sum(c.amount_usd) as cost_usd,
  count(*) as executions
from persona.cost_ledger as c
where c.kind = 'booked'
group by 1, 2, 3, 4;
comment on view persona.cost_by_day is 'Money spent by UTC day, agent, business and model.';
comment on column persona.cost_by_day.day is 'UTC day.';
comment on column persona.cost_by_day.agent is 'Its agent.';
comment on column persona.cost_by_day.business is 'Its instance.';
comment on column persona.cost_by_day.model is 'Model that answered.';
comment on column persona.cost_by_day.cost_usd is 'US dollars.';
comment on column persona.cost_by_day.executions is 'Executions that reported a cost.';
