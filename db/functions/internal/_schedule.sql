create or replace function persona._schedule(p_name text) returns persona.schedules
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_schedule persona.schedules;
begin
  select * into v_schedule from persona.schedules as s where s.name = p_name for no key update;
  if not found then
    perform persona._raise('PJ404', format('there is no schedule %s', p_name), jsonb_build_object('name', p_name),
      'persona schedule lists them.');
  end if;
  return v_schedule;
end $$;
comment on function persona._schedule(text) is 'Internal. Locks and returns a schedule. PJ404.';
