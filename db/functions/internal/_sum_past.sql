-- What was there before the counting began, an hour after the other backwards, until there are eight days: as much of
-- it as a tick may take. And what is older than anybody draws goes.
create or replace function persona._sum_past() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_cursor persona.activity_cursor;
  v_enough constant timestamptz := clock_timestamp() + interval '200 ms';
begin
  select * into v_cursor from persona.activity_cursor;
  -- Until then somebody may still add to the past.
  if persona._feed_horizon() >= v_cursor.first_xid then
    while v_cursor.since > now() - interval '8 days' and clock_timestamp() < v_enough loop
      if v_cursor.restored_at > '-infinity' then
        perform persona._sum_activity(0, 9223372036854775807, v_cursor.since - interval '1 hour',
          least(v_cursor.since, v_cursor.restored_at));
      else
        perform persona._sum_activity(0, v_cursor.first_xid, v_cursor.since - interval '1 hour', v_cursor.since);
      end if;
      v_cursor.since := v_cursor.since - interval '1 hour';
    end loop;
    update persona.activity_cursor as c set since = v_cursor.since where c.since <> v_cursor.since;
  end if;
  delete from persona.activity as a where a.at < now() - interval '9 days';
  delete from persona.agent_hours as a where a.at < now() - interval '9 days';
  delete from persona.queue_depths as q where q.at < now() - interval '9 days';
  delete from persona.activity_times as t
  where t.kind = any(array['ran', 'waited']) and t.at < now() - interval '9 days';
end $$;
comment on function persona._sum_past() is 'Internal. Goes on with activity of the past, from the latest on.';
