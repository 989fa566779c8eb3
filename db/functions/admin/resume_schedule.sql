create or replace function persona.resume_schedule(name text) returns persona.schedules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return persona.update_schedule(resume_schedule.name, '{"is_paused": false}');
end $$;
comment on function persona.resume_schedule(text) is 'Admin API. The schedule goes on; what was due meanwhile is not caught up with. PJ404.';
