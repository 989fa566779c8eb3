-- Ends one execution whose runner is gone. Nothing is waited for: what somebody else is just changing is left to
-- them. The lease is tested again after the job has been locked, so a heartbeat that came in between wins.
create or replace function persona._orphan(p_job_id uuid, p_lease bigint, p_reason text, p_is_dead boolean)
returns table (id uuid, short_id text, status text, reason text)
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_lease persona.job_leases;
begin
  perform from persona.jobs as j where j.id = p_job_id for no key update skip locked;
  if not found then
    return;
  end if;
  select * into v_lease from persona.job_leases as l
  where l.job_id = p_job_id and l.lease = p_lease and (p_is_dead or l.expires_at < now())
  for update skip locked;
  if not found then
    return;
  end if;
  perform persona._settle(v_lease.runner_id, jsonb_build_array(jsonb_build_object(
    'job_id', p_job_id, 'lease', p_lease, 'outcome', 'orphaned', 'error', p_reason, 'failure_kind', 'orphaned')));
  if not p_is_dead then
    perform persona._raise_alert('job_hung', j.id, format('%s job %s of agent %s was lost: %s; it is %s now',
      j.job_type, j.short_id, j.agent, p_reason, j.status),
      jsonb_build_object('status', j.status), format('hung:%s:%s', p_job_id, p_lease))
    from persona.jobs as j where j.id = p_job_id;
  end if;
  return query
    select j.id, j.short_id, j.status, coalesce(j.error, p_reason) from persona.jobs as j where j.id = p_job_id;
end $$;
comment on function persona._orphan(uuid, bigint, text, boolean) is
  'Internal. Ends one execution as orphaned, if its lease has run out or its runner is known to be dead.';
