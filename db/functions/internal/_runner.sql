create or replace function persona._runner(p_runner_id uuid) returns persona.runners
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner persona.runners;
begin
  select * into v_runner from persona.runners as r where r.id = p_runner_id and r.ended_at is null;
  if not found then
    perform persona._raise('PJ410', format('runner %s is not registered, or was replaced', p_runner_id),
      jsonb_build_object('runner_id', p_runner_id),
      'Kill what it runs, report nothing, and register again.');
  end if;
  if v_runner.login_role is distinct from persona._caller() then
    perform persona._own_runner(p_runner_id);
  end if;
  return v_runner;
end $$;
comment on function persona._runner(uuid) is 'Internal. A live runner. PJ410.';
