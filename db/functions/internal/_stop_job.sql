-- Moves a job that is not running to its new status; asks the runner of a running one to stop it.
create or replace function persona._stop_job(p_id uuid, p_reason text, p_force boolean, p_stop_as text)
returns persona.jobs
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs;
  v_lease persona.job_leases;
begin
  select * into v_job from persona.jobs as j where j.id = p_id for no key update;
  if v_job.status in ('blocked', 'pending', 'held') and v_job.status <> p_stop_as then
    update persona.jobs as j
    set status = p_stop_as, status_reason = p_reason,
        completed_at = case when p_stop_as = 'cancelled' then now() end,
        error = case when p_stop_as = 'cancelled' then coalesce(p_reason, 'cancelled') end,
        failure_kind = case when p_stop_as = 'cancelled' then 'cancelled' end,
        cancel_reason = p_reason,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = p_id
    returning * into v_job;
    if p_stop_as = 'cancelled' then
      perform persona._settle_dependents(array[p_id]);
    end if;
    return v_job;
  elsif v_job.status <> 'running' then
    return v_job;
  end if;

  update persona.jobs as j
  set cancel_requested_at = coalesce(j.cancel_requested_at, now()),
      cancel_reason = coalesce(p_reason, j.cancel_reason),
      cancel_force = j.cancel_force or p_force,
      -- A cancel is not taken back by a later hold.
      stop_as = case when j.stop_as = 'cancelled' then 'cancelled' else p_stop_as end,
      status_reason = case when 'cancelled' in (p_stop_as, j.stop_as) then 'is being cancelled'
        when p_stop_as = 'failed' then 'is being stopped' else 'is being held' end,
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = p_id
  returning * into v_job;
  update persona.job_leases as l
  set stop_requested = true, stop_force = l.stop_force or p_force
  where l.job_id = p_id
  returning * into v_lease;
  if v_lease.expires_at < now() or v_lease.is_external
     or exists (select from persona.agents as a where a.name = v_job.agent and a.is_external)
  then
    perform persona._settle(v_lease.runner_id, jsonb_build_array(jsonb_build_object(
      'job_id', v_job.id, 'lease', v_lease.lease, 'outcome', p_stop_as, 'error', p_reason)));
    select * into v_job from persona.jobs as j where j.id = p_id;
  else
    perform pg_notify('persona_cancel', v_lease.runner_id::text);
  end if;
  return v_job;
end $$;
comment on function persona._stop_job(uuid, text, boolean, text) is 'Internal. Cancels or holds one job; p_stop_as failed is for running ones only.';
