create or replace function persona.delete_event(event_id bigint) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  update persona.events as e set deleted_at = now()
  where e.id = delete_event.event_id and e.deleted_at is null;
  return found;
end $$;
comment on function persona.delete_event(bigint) is
  'Client API. Takes an event from the readers'' queue for good; get_events still shows it. False where it was not in the queue.';
