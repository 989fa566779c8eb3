-- An owner may delete by hand what has not ended. Its entry in the queue would then stand before all others of its
-- agent, as a claim of one job looks no further than the first; its lease would be renewed for ever.
create or replace function persona._jobs_forget() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._lock_keys(array[old.lock_key]);
  perform persona._drop_reservation(old);
  delete from persona.job_leases as l where l.job_id = old.id;
  delete from persona.job_queue as q where q.seq = old.seq;
  if old.lock_key is not null then
    perform persona._unpark(array[old.lock_key]);
  end if;
  return null;
end $$;
comment on function persona._jobs_forget() is 'Trigger. Removes queue entry and lease of a job that was deleted by hand.';

create or replace trigger jobs_forget after delete on persona.jobs
for each row when (old.status in ('pending', 'running'))
execute function persona._jobs_forget();
