create or replace function persona._keep_reservations(p_ids uuid[], p_amounts numeric[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
begin
  with kept as (
    update persona.job_leases as l set reserved_usd = g.amount
    from unnest(p_ids, p_amounts) as g (id, amount)
    where l.job_id = g.id and g.amount is not null
    returning l.job_id, l.lease, l.agent, l.job_type, l.reserved_usd
  )
  insert into persona.cost_ledger (job_id, root_job_id, lease, agent, job_type, business, kind, amount_usd)
  select k.job_id, j.root_job_id, k.lease, k.agent, k.job_type, j.business, 'reserved', k.reserved_usd
  from kept as k
  join persona.jobs as j on j.id = k.job_id;
end $$;
comment on function persona._keep_reservations(uuid[], numeric[]) is
  'Internal. Writes down what is reserved for jobs that have just got their leases.';
