-- Takes a lent slot back, or says that there is none yet: then claims leave the next one that is free to this job.
-- The agent's row and the names of limits are locked before leases are counted, as in a claim.
create or replace function persona._regain_slot(p_job_id uuid) returns boolean
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_agent text;
  v_names text[];
  v_limit integer;
  v_is_free boolean := true;
begin
  select l.agent, persona._limit_names(l.job_type, l.limit_key, null) into v_agent, v_names
  from persona.job_leases as l where l.job_id = p_job_id and l.is_waiting;
  if not found then
    return true;
  end if;
  select a.max_concurrent into v_limit from persona.agents as a
  where a.name = v_agent and a.max_concurrent is not null for no key update;
  if found then
    v_is_free := v_limit > (
      select count(*) from persona.job_leases as l where l.agent = v_agent and not l.is_waiting);
  end if;
  perform pg_advisory_xact_lock(hashtext('persona.limit'), hashtext(n.name)) from unnest(v_names) as n (name);
  v_is_free := v_is_free and not exists (
    select from unnest(v_names) as n (name) where persona._limit_room(n.name, false) <= 0);
  update persona.job_leases as l set is_waiting = not v_is_free, wants_slot = not v_is_free
  where l.job_id = p_job_id and (v_is_free or not l.wants_slot);
  return v_is_free;
end $$;
comment on function persona._regain_slot(uuid) is 'Internal. Takes back what _lend_slot gave; false: not yet, the limit of its agent is reached.';
