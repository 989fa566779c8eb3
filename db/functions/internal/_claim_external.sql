-- A program outside has started this pending job, which the caller has locked: gives it the lease. From now on no
-- runner can claim it. Lock order is the claim's other way round, but a claim never waits: it skips what is locked.
create or replace function persona._claim_external(p_job persona.jobs, p_pid integer)
returns persona.job_leases
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_driver persona.runners := persona._bridge_driver();
  v_number bigint := greatest(p_job.lease + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  v_lease persona.job_leases;
begin
  perform persona._refuse_late('bridge');
  if p_job.lock_key is not null then
    perform pg_advisory_xact_lock(hashtext('persona.lock_key'), hashtext(p_job.lock_key));
    if exists (select from persona.job_leases as l where l.lock_key = p_job.lock_key) then
      perform persona._raise('PJ423',
        format('job %s cannot start: another job runs under its lock key "%s"', p_job.short_id, p_job.lock_key),
        jsonb_build_object('id', p_job.id, 'from', 'pending', 'to', 'running'),
        'Start it again when that one has ended.');
    end if;
  end if;
  delete from persona.job_queue as q where q.seq = p_job.seq;
  update persona.jobs as j
  set status = 'running', status_reason = null, attempt = least(j.attempt + 1, j.max_attempts), lease = v_number,
      runner_id = v_driver.id, hostname = v_driver.hostname, pid = p_pid, started_at = now(), exit_code = null,
      error = null, failure_kind = null, progress = null, progress_text = null, cancel_requested_at = null,
      cancel_reason = null, cancel_force = false, stop_as = null,
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = p_job.id;
  insert into persona.job_leases (
    job_id, lease, runner_id, agent, lock_key, lease_length, claimed_at, heartbeat_at, expires_at, pid, is_external)
  values (
    p_job.id, v_number, v_driver.id, p_job.agent, p_job.lock_key, v_driver.lease, now(), now(),
    now() + v_driver.lease, p_pid, true)
  returning * into v_lease;
  perform persona._announce(array[p_job.id]);
  return v_lease;
end $$;
comment on function persona._claim_external(persona.jobs, integer) is
  'Internal. Gives a pending, locked job to a program outside. PJ423.';
