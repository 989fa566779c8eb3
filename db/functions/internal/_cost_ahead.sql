-- What an execution is expected to cost, and so what is reserved for it: a given maximum, else what nine of ten
-- executions of its type and agent have cost at most, else a setting. The job's own maximum bounds all of these. It is
-- no estimate where the job may delegate: what is reserved for the job above is not there for those below.
create or replace function persona._cost_ahead(p_job persona.jobs) returns numeric
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off as $$
declare
  c_least constant numeric := 0.0001;
  v_left numeric := p_job.max_cost_usd - coalesce(p_job.cost_usd, 0);
  v_agent record;
  v_cost numeric;
begin
  select a.max_cost_usd, a.costs_money, cardinality(a.may_delegate_to) > 0 as may_delegate into v_agent
  from persona.agents as a where a.name = p_job.agent;
  v_cost := least(v_agent.max_cost_usd, case when not v_agent.may_delegate then v_left end);
  if v_cost is null then
    select round((percentile_cont(0.9) within group (order by r.amount_usd))::numeric, 6) into v_cost
    from (
      select c.amount_usd from persona.cost_ledger as c
      where c.job_type = p_job.job_type and c.agent = p_job.agent and c.kind = 'booked'
      order by c.id desc limit 100) as r;
    if not v_agent.costs_money and v_left is null and coalesce(v_cost, 0) = 0 then
      return null;
    end if;
  end if;
  return greatest(c_least, least(coalesce(v_cost, persona._setting('cost_estimate_usd')::numeric), v_left));
end $$;
comment on function persona._cost_ahead(persona.jobs) is
  'Internal. US dollars to be reserved for the next execution of a job; null: it costs no money.';
