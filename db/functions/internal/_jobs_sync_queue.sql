-- Keeps job_queue in step with jobs for every change but the two hot ones, which do it themselves: the insert of
-- a new job and the claim. So a requeue, a release, a cancel, or an owner's update by hand cannot lose an entry.
create or replace function persona._jobs_sync_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if old.status = 'pending' then
    perform persona._lock_keys(array[old.lock_key]);
    delete from persona.job_queue as q where q.seq = old.seq;
    if old.lock_key is not null then
      -- It may have been the one entry of its key that was not parked.
      perform persona._unpark(array[old.lock_key]);
    end if;
  end if;
  if new.status = 'pending' and (old.status = 'blocked' or new.agent <> old.agent)
     and persona._needs_approval(new.agent, new.job_type)
  then
    -- Not before now: it waited for other jobs first, or was given to another agent.
    update persona.jobs as j set status = 'held', status_reason = 'needs approval' where j.id = new.id;
    perform persona._ask_approval(new.id);
  elsif new.status = 'pending' then
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
    values (new.seq, new.id, new.agent, new.priority, new.run_at, new.lock_key, 
      case when new.is_external then 'external' else persona._waits_on(new.agent, new.run_at) end);
    perform persona._wake(new.agent);
  end if;
  return null;
end $$;
comment on function persona._jobs_sync_queue() is 'Trigger. Moves the entry of a job in job_queue after a change of the job.';

create or replace trigger jobs_sync_queue after update on persona.jobs
for each row when (
  (new.status = 'pending' and (old.status <> 'pending'
    or (new.agent, new.priority, new.run_at, new.lock_key, new.seq)
       is distinct from (old.agent, old.priority, old.run_at, old.lock_key, old.seq)))
  or (old.status = 'pending' and new.status not in ('pending', 'running')))
execute function persona._jobs_sync_queue();
