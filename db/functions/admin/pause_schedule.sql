create or replace function persona.pause_schedule(name text) returns persona.schedules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return persona.update_schedule(pause_schedule.name, '{"is_paused": true}');
end $$;
comment on function persona.pause_schedule(text) is 'Admin API. The schedule creates nothing until resume_schedule. PJ404.';
