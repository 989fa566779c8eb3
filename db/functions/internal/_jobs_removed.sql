-- Once a statement. A deleted job is taken off where it is counted, which only the tick knows: it may be at it.
create or replace function persona._jobs_removed() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  insert into persona.job_removals (created_xid, jobs)
  select case when r.seq > c.restored_seq then r.created_xid else 0 end, count(*)
  from removed as r
  cross join persona.activity_cursor as c
  group by 1;
  return null;
end $$;
comment on function persona._jobs_removed() is 'Trigger. Notes that jobs were deleted, for their number.';

create or replace trigger jobs_removed after delete on persona.jobs
referencing old table as removed
for each statement execute function persona._jobs_removed();
