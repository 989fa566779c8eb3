-- Tells those who watch a vault that an answer is there. Only a job that came from a note costs a notification, and
-- such a job takes seconds at least: the lock that a notification takes at commit is none for the queue.
create or replace function persona._notes_tell() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform pg_notify('persona_notes', m.vault) from persona.note_markers as m where m.job_id = new.id;
  return null;
end $$;
comment on function persona._notes_tell() is 'Trigger. Notifies persona_notes with the vault when a job that came from a note has completed.';

create or replace trigger notes_tell after update on persona.jobs
for each row when (new.status = 'completed' and old.status <> 'completed' and new.tags @> '{note}')
execute function persona._notes_tell();
