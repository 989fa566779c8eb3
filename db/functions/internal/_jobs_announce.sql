-- Every change of a job but the two hot ones, which say it themselves once a batch: the claim and the end of an
-- execution. After the row, for then the transaction has its id.
create or replace function persona._jobs_announce() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._announce(array[new.id]);
  return null;
end $$;
comment on function persona._jobs_announce() is 'Trigger. Tells watchers of a changed job.';

create or replace trigger jobs_announce after update on persona.jobs
for each row when (
  (old.status <> new.status
    and not (old.status = 'pending' and new.status = 'running') and old.status <> 'running')
  or (old.status = new.status and new.status <> 'running'
    and (new.priority, new.run_at, new.agent, new.status_reason)
        is distinct from (old.priority, old.run_at, old.agent, old.status_reason))
  or new.cancel_requested_at is distinct from old.cancel_requested_at)
execute function persona._jobs_announce();
