create or replace function persona._break_schedule(p_name text, p_problem text) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  update persona.schedules as s
  set is_paused = true, problem = left(p_problem, 500),
      updated_at = greatest(now(), s.updated_at + interval '1 microsecond')
  where s.name = p_name;
  perform persona._raise_alert('schedule', null, format('schedule %s was paused: %s', p_name, p_problem),
    jsonb_build_object('schedule', p_name));
end $$;
comment on function persona._break_schedule(text, text) is 'Internal. Pauses a schedule that cannot work, and says so.';
