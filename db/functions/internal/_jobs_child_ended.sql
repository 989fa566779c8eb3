-- A delegated job has ended, by whichever writer. The runner of a job that waits for it is told, and nobody else: a
-- notification takes a lock of the whole cluster.
-- The lock orders this against a job that is just beginning to wait: either it sees this end, or its mark is seen
-- here. It comes after all row locks, there as here.
create or replace function persona._jobs_child_ended() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner_id uuid;
begin
  if new.status = 'failed' and new.on_failure in ('fail', 'cancel_siblings') then
    perform persona._fail_family(new.id, new.short_id, new.parent_job_id, new.on_failure);
  end if;
  perform pg_advisory_xact_lock_shared(hashtext('persona.children'), hashtext(new.parent_job_id::text));
  select l.runner_id into v_runner_id from persona.job_leases as l
  where l.job_id = new.parent_job_id and l.is_waiting;
  if found then
    perform pg_notify('persona_control', 'children ' || v_runner_id);
  end if;
  return null;
end $$;
comment on function persona._jobs_child_ended() is 'Trigger. Tells the runner of a job that waits that something it delegated has ended.';

create or replace trigger jobs_child_ended after update on persona.jobs
for each row when (
  new.parent_job_id is not null and new.status in ('completed', 'failed', 'cancelled') and old.status <> new.status)
execute function persona._jobs_child_ended();
