-- A runner acts under the registration that its own login made. Asked only of restricted logins, because a
-- registration may be handed on: a runner restarts under another role, or its pool changes.
create or replace function persona._own_runner(p_runner_id uuid) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if exists (
       select from persona.runner_restrictions as r
       where r.role_name in (session_user, persona._caller()::name))
     and not exists (
       select from persona.runners as r where r.id = p_runner_id and r.login_role = persona._caller())
  then
    perform persona._raise('PJ403', format('runner %s is not one of role %s', p_runner_id, persona._caller()),
      jsonb_build_object('runner_id', p_runner_id, 'role', persona._caller()),
      'A login that is restricted to some agents acts for its own runners only.');
  end if;
end $$;
comment on function persona._own_runner(uuid) is 'Internal. Refuses a restricted login that speaks for a runner of another one. PJ403.';
