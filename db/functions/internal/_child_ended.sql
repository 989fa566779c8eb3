-- A delegated job has ended, by whichever writer. The runner of a job that waits for it is told, and nobody else: a
-- notification takes a lock of the whole cluster.
-- The lock orders this against a job that is just beginning to wait: either it sees this end, or its mark is seen
-- here. It comes after all row locks, there as here.
create or replace function persona._child_ended(p_job persona.jobs) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner_id uuid;
begin
  if p_job.status = 'failed' and p_job.on_failure in ('fail', 'cancel_siblings') then
    perform persona._fail_family(p_job.id, p_job.short_id, p_job.parent_job_id, p_job.on_failure);
  end if;
  perform pg_advisory_xact_lock_shared(hashtext('persona.children'), hashtext(p_job.parent_job_id::text));
  select l.runner_id into v_runner_id from persona.job_leases as l
  where l.job_id = p_job.parent_job_id and l.is_waiting;
  if found then
    perform pg_notify('persona_control', 'children ' || v_runner_id);
  end if;
end $$;
comment on function persona._child_ended(persona.jobs) is 'Internal. Tells the runner of a job that waits that something it delegated has ended.';
