-- A job that waits for what it delegated gives its slot to others. It keeps its lease and its lock key.
create or replace function persona._lend_slot(p_job_id uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_agent text;
  v_reserved numeric;
begin
  update persona.job_leases as l set is_waiting = true, wants_slot = false
  where l.job_id = p_job_id and not l.is_waiting
  returning l.agent, l.reserved_usd into v_agent, v_reserved;
  -- What waits for its money must know that this will not come before it has run itself.
  if v_reserved is not null or exists (select from persona.limits) then
    perform persona._wake('*');
  elsif exists (select from persona.agents as a where a.name = v_agent and a.max_concurrent is not null) then
    perform persona._wake(v_agent);
  end if;
end $$;
comment on function persona._lend_slot(uuid) is 'Internal. The lease of this job does not count against a limit until _regain_slot.';
