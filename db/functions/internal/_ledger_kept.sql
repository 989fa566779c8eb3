-- Append only is a promise of the database, whoever writes.
create or replace function persona._ledger_kept() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._raise('PJ423', format('the ledger is append only: entry %s of job %s stays as it is', old.id, old.job_id),
    jsonb_build_object('id', old.id, 'job_id', old.job_id), 'A correction is another entry.');
  return null;
end $$;
comment on function persona._ledger_kept() is 'Trigger. Refuses changes of what was booked.';

create or replace trigger ledger_kept before update or delete on persona.cost_ledger
for each row execute function persona._ledger_kept();
