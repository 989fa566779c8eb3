create or replace function persona._jobs_emptied() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  delete from persona.job_removals;
  update persona.activity_cursor as c set jobs = 0;
  return null;
end $$;
comment on function persona._jobs_emptied() is 'Trigger. No job is left.';

create or replace trigger jobs_emptied after truncate on persona.jobs
for each statement execute function persona._jobs_emptied();
