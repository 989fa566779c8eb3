-- What reported executions have cost, also where the report came too late, and the end of what was reserved for those
-- that have ended. In a statement after the one that ends them, as most reports are of no money; the jobs are locked.
create or replace function persona._book(p_items jsonb, p_ids uuid[], p_leases bigint[], p_reserved numeric[])
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  insert into persona.cost_ledger (
    job_id, root_job_id, lease, agent, job_type, business, kind, amount_usd, model, tokens)
  with ended as (
    select h.job_id, h.lease, 'released' as kind, h.reserved_usd as amount_usd, null as model, null::jsonb as tokens
    from unnest(p_ids, p_leases, p_reserved) as h (job_id, lease, reserved_usd)
    where h.reserved_usd is not null
      and exists (select from persona.job_attempts as t where t.job_id = h.job_id and t.lease = h.lease)
    union all
    select t.job_id, t.lease, 'booked', t.cost_usd, t.model, t.tokens
    from (
      select distinct o.job_id, o.lease
      from jsonb_to_recordset(p_items) as o (job_id uuid, lease bigint, cost_usd numeric)
      where o.cost_usd is not null) as i
    cross join lateral (
      select a.* from persona.job_attempts as a where a.job_id = i.job_id and a.lease = i.lease offset 0) as t
    where t.cost_usd is not null
      and not exists (
        select from persona.cost_ledger as c where c.job_id = t.job_id and c.lease = t.lease and c.kind = 'booked')
  )
  select e.job_id, j.root_job_id, e.lease, j.agent, j.job_type, j.business, e.kind, e.amount_usd, e.model, e.tokens
  from ended as e
  cross join lateral (select o.* from persona.jobs as o where o.id = e.job_id offset 0) as j;
end $$;
comment on function persona._book(jsonb, uuid[], bigint[], numeric[]) is
  'Internal. Writes into the ledger what these reports have cost and what is no longer reserved, each once.';
