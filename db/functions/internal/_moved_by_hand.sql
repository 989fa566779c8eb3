-- The owner moves a job to or out of running with a plain UPDATE, as the state machine allows. To running: nobody
-- runs it, so it gets a lease that nobody renews, and is recovered when that has run out. Out of running: the lease
-- goes, a runner that holds it is told lost at its next heartbeat, and the end is in the history. Only back to
-- pending while a runner holds it is refused: another runner would start it beside the living one.
create or replace function persona._moved_by_hand(p_old persona.jobs, p_new persona.jobs) returns persona.jobs
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_nobody constant uuid := uuid '00000000-0000-0000-0000-000000000000';
  v_lease persona.job_leases;
begin
  if p_new.status = 'running' then
    delete from persona.job_queue as q where q.seq = p_old.seq;
    p_new.lease := greatest(p_old.lease + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    p_new.attempt := p_old.attempt + 1;
    p_new.started_at := now();
    p_new.runner_id := v_nobody;
    insert into persona.job_leases (
      job_id, lease, runner_id, agent, lock_key, lease_length, claimed_at, heartbeat_at, expires_at)
    values (
      p_new.id, p_new.lease, v_nobody, p_new.agent, p_new.lock_key, interval '5 minutes', now(), now(),
      now() + interval '5 minutes');
    perform persona._announce(array[p_new.id]);
    return p_new;
  end if;

  select * into v_lease from persona.job_leases as l where l.job_id = p_old.id for update;
  if p_new.status = 'pending' and v_lease.runner_id <> v_nobody and v_lease.expires_at > now() then
    perform persona._raise('PJ423',
      format('job %s is running and cannot become pending while a runner holds it', p_old.short_id),
      jsonb_build_object('id', p_old.id, 'from', p_old.status, 'to', p_new.status),
      'cancel_job or hold_job stops it; then retry_job or release_job starts it again.');
  end if;
  perform persona._drop_reservation(p_old);
  delete from persona.job_leases as l where l.job_id = p_old.id;
  insert into persona.job_attempts (
    job_id, lease, attempt, is_counted, outcome, runner_id, hostname, pid, started_at, started_xid, exit_code, error,
    failure_kind)
  values (
    p_old.id, p_old.lease, p_old.attempt, p_new.status in ('completed', 'failed', 'cancelled'),
    case p_new.status when 'pending' then 'given_back' else p_new.status end, p_old.runner_id, p_old.hostname,
    v_lease.pid, coalesce(v_lease.claimed_at, p_old.started_at, now()), coalesce(v_lease.claimed_xid, 0),
    p_new.exit_code,
    coalesce(p_new.error, 'moved by hand'), p_new.failure_kind);
  p_new.ended_lease := p_old.lease;
  if p_new.status in ('completed', 'failed', 'cancelled') then
    p_new.completed_at := coalesce(p_new.completed_at, now());
  else
    p_new.attempt := greatest(p_old.attempt - 1, 0);
  end if;
  if p_old.lock_key is not null then
    perform persona._unpark(array[p_old.lock_key]);
  end if;
  perform persona._announce(array[p_old.id]);
  return p_new;
end $$;
comment on function persona._moved_by_hand(persona.jobs, persona.jobs) is
  'Internal. Keeps leases and history in step with a plain UPDATE of the status. PJ423.';
