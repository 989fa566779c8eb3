-- The feed of events, oldest first, from a cursor on. The order is that of transaction ids, and an event is shown only
-- once no older transaction of this database is under way (_feed_horizon): a time or an identity is taken before the
-- commit, so a reader who remembers the last one would skip what commits late. So a long writing transaction in this
-- database delays the feed, but nothing is ever left out or shown twice. Every later page begins where the last
-- event's next_cursor says; it survives a restart and a failover, not a dump and restore into another server.
-- Pages of a long history are found in windows that grow while they are empty: no page sorts what follows it.
create or replace function persona.list_events(
  after text default null, max_rows integer default 100, ref text default null, of_type text default null
) returns table (
  next_cursor text, at timestamptz, event_type text, job_id uuid, source text, trace_id text, data jsonb,
  event_id bigint)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_nothing constant uuid := uuid '00000000-0000-0000-0000-000000000000';
  v_place text[] := regexp_match(coalesce(nullif(list_events.after, ''), '0'),
    '^(\d{1,18})(?:\.(\d{1,4})\.(\d{1,18})\.([0-9a-f-]{36}))?$');
  v_job_id uuid;
  v_horizon bigint := persona._feed_horizon();
  v_from bigint;
  v_to bigint;
  v_span bigint;
  v_left integer := list_events.max_rows;
  v_found integer;
begin
  if v_place is null then
    perform persona._invalid('after', left(list_events.after, 100),
      'the cursor of an event, of event_cursor(), or nothing is needed');
  elsif list_events.max_rows is null or list_events.max_rows not between 1 and 10000 then
    perform persona._invalid('max_rows', list_events.max_rows::text, '1 to 10000 is allowed');
  elsif v_place[1]::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint then
    perform persona._invalid('after', list_events.after,
      'the cursor is from another server, or from after a backup that was restored: begin anew');
  end if;
  if coalesce(list_events.ref, '') <> '' then
    v_job_id := persona.resolve_job(list_events.ref);
  end if;
  v_from := v_place[1]::bigint;
  v_span := case when v_job_id is null then 4 * list_events.max_rows else v_horizon end;
  while v_from < v_horizon and v_left > 0 loop
    v_to := least(v_horizon, v_from + v_span);
    return query
      select concat_ws('.', o.xid, o.rank, o.number, coalesce(o.job_id, v_nothing)), o.at, o.event_type, o.job_id,
        o.source, o.trace_id, o.data, o.event_id
      from persona.job_events as o
      where o.xid >= v_from and o.xid < v_to
        and (v_place[2] is null or o.xid > v_place[1]::bigint
          or (o.rank, o.number, coalesce(o.job_id, v_nothing))
             > (v_place[2]::integer, v_place[3]::bigint, v_place[4]::uuid))
        and (v_job_id is null or o.job_id = v_job_id)
        and (list_events.of_type is null or o.event_type = list_events.of_type)
      order by o.xid, o.rank, o.number, coalesce(o.job_id, v_nothing)
      limit v_left;
    get diagnostics v_found = row_count;
    v_left := v_left - v_found;
    v_from := v_to;
    v_span := 2 * v_span;
  end loop;
end $$;
comment on function persona.list_events(text, integer, text, text) is
  'Viewer API. Life-cycle and published events, oldest first, behind a cursor: the next_cursor of the last event seen, event_cursor(), or null for all that is stored. Nothing is skipped or repeated. ref and of_type choose. PJ404, PJ422.';
