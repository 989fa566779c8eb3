-- Hands out events that nobody else is reading; each comes back to the readers after the given time unless it is
-- deleted. Two readers at once never get the same event: what one has locked the other skips.
create or replace function persona.read_events(max_events integer default 10, visibility_seconds integer default 30)
returns setof persona.events
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if read_events.max_events is null or read_events.max_events not between 1 and 1000 then
    perform persona._invalid('max_events', read_events.max_events::text, '1 to 1000 is allowed');
  elsif read_events.visibility_seconds is null or read_events.visibility_seconds not between 0 and 86400 then
    perform persona._invalid('visibility_seconds', read_events.visibility_seconds::text, '0 to 86400 is allowed');
  end if;
  return query
    with picked as materialized (
      select e.id from persona.events as e
      where e.deleted_at is null and e.visible_at <= clock_timestamp()
      order by e.id limit read_events.max_events for update skip locked
    ), taken as (
      update persona.events as e
      set visible_at = clock_timestamp() + make_interval(secs => read_events.visibility_seconds),
          read_count = e.read_count + 1
      from picked as p
      where e.id = p.id
      returning e.*
    )
    select t.* from taken as t order by t.id;
end $$;
comment on function persona.read_events(integer, integer) is
  'Client API. Takes the oldest events that wait for a reader and hides them from other readers for so many seconds; delete_event when done. PJ422.';
