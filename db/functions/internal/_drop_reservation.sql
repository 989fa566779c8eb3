-- Where a lease goes in another way than by the end of its execution, which does this itself.
create or replace function persona._drop_reservation(p_job persona.jobs) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  insert into persona.cost_ledger (job_id, root_job_id, lease, agent, job_type, business, kind, amount_usd)
  select l.job_id, p_job.root_job_id, l.lease, l.agent, l.job_type, p_job.business, 'released', l.reserved_usd
  from persona.job_leases as l where l.job_id = p_job.id and l.reserved_usd is not null;
  if found then
    perform persona._wake('*');
  end if;
end $$;
comment on function persona._drop_reservation(persona.jobs) is 'Internal. Writes down that the reservation of a job ends with its lease.';
