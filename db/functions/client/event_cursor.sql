create or replace function persona.event_cursor() returns text
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select persona._feed_horizon()::text;
$$;
comment on function persona.event_cursor() is
  'Viewer API. The end of the feed of events now: list_events(after => this) gives what is recorded from now on.';
