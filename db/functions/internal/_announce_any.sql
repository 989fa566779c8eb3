-- The changes that only who watches everything wants to hear of, once a statement.
create or replace function persona._announce_any() returns trigger
language plpgsql security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._announce(null);
  return null;
end $$;
comment on function persona._announce_any() is 'Trigger. Tells those who watch everything that something has changed.';

-- Not after an insert, which is on the path of every enqueue: whoever inserts says it.
create or replace trigger jobs_announce_all after delete on persona.jobs
for each statement execute function persona._announce_any();
create or replace trigger gates_announce after insert or update or delete on persona.gates
for each statement execute function persona._announce_any();
create or replace trigger events_announce after insert on persona.events
for each statement execute function persona._announce_any();
create or replace trigger alerts_announce after insert or update on persona.alerts
for each statement execute function persona._announce_any();
create or replace trigger runners_announce
after insert or delete or update of ended_at, drain_requested_at on persona.runners
for each statement execute function persona._announce_any();
