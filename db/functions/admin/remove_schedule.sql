create or replace function persona.remove_schedule(name text) returns persona.schedules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_schedule persona.schedules := persona._schedule(remove_schedule.name);
begin
  delete from persona.schedules as s where s.name = v_schedule.name;
  return v_schedule;
end $$;
comment on function persona.remove_schedule(text) is 'Admin API. Removes a schedule; the jobs it has created stay. PJ404.';
