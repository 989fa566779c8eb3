-- What follows from a change of a job, whoever made it: its entry in job_queue, watchers, the job that it was delegated
-- by, the vault that it came from. A claim and the end of an execution write the queue and tell watchers themselves,
-- once a batch. So a requeue, a release, a cancel, or an owner's update by hand cannot lose an entry.
-- One trigger with one short condition for all of it: see jobs_guard.
create or replace function persona._jobs_sync_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  -- Watchers. After the row, for then the transaction has its id.
  if (old.status <> new.status and not (old.status = 'pending' and new.status = 'running') and old.status <> 'running')
     or (old.status = new.status and new.status <> 'running'
       and (new.priority, new.run_at, new.agent, new.status_reason)
           is distinct from (old.priority, old.run_at, old.agent, old.status_reason))
     or new.cancel_requested_at is distinct from old.cancel_requested_at
  then
    perform persona._announce(array[new.id]);
  end if;

  if new.parent_job_id is not null and new.status in ('completed', 'failed', 'cancelled') and old.status <> new.status then
    perform persona._child_ended(new);
  end if;

  if (new.status = 'pending' and (old.status <> 'pending'
       or (new.agent, new.priority, new.run_at, new.lock_key, new.seq)
          is distinct from (old.agent, old.priority, old.run_at, old.lock_key, old.seq)))
     or (old.status = 'pending' and new.status not in ('pending', 'running'))
  then
    perform persona._requeue(old, new);
  end if;

  -- Only a job that came from a note costs a notification, and such a job takes seconds at least: the lock that a
  -- notification takes at commit is none for the queue.
  if new.status = 'completed' and old.status <> 'completed' and new.tags @> '{note}' then
    perform pg_notify('persona_notes', m.vault) from persona.note_markers as m where m.job_id = new.id;
  end if;
  return null;
end $$;
comment on function persona._jobs_sync_queue() is
  'Trigger. Moves the entry of a changed job in job_queue, and tells watchers, the job that waits for it, and its vault.';

create or replace trigger jobs_sync_queue after update on persona.jobs
for each row when (
  (new.status <> 'running' and not (
    old.status = 'running' and new.status = 'completed' and new.parent_job_id is null and new.tags = '{}'))
  or new.cancel_requested_at is distinct from old.cancel_requested_at)
execute function persona._jobs_sync_queue();
