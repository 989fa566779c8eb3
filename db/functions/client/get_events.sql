create or replace function persona.get_events(ref text default null, event_type text default null, max_rows integer default 50)
returns setof persona.events
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job_id uuid;
begin
  if coalesce(get_events.ref, '') = '' then
    return query
      select e.* from persona.events as e
      where get_events.event_type is null or e.event_type = get_events.event_type
      order by e.id desc limit get_events.max_rows;
  else
    v_job_id := persona.resolve_job(get_events.ref);
    return query
      select e.* from persona.events as e
      where e.job_id = v_job_id and (get_events.event_type is null or e.event_type = get_events.event_type)
      order by e.id desc limit get_events.max_rows;
  end if;
end $$;
comment on function persona.get_events(text, text, integer) is
  'Viewer API. Published events, newest first, of one job or of all; what the queue itself recorded is in the view job_events. PJ404, PJ300.';
