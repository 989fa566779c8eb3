-- The number is read after the lock of _lock_connection, in a statement of its own.
create or replace function persona._check_connection(p_runner_id uuid, p_connection integer) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_number integer;
begin
  if p_connection is null then
    return;
  end if;
  if persona._lock_connection(p_runner_id) then
    select r.connection into v_number from persona.runners as r where r.id = p_runner_id;
  end if;
  if v_number is distinct from p_connection then
    perform persona._raise('PJ409',
      format('connection %s of runner %s was replaced by another one', p_connection, p_runner_id),
      jsonb_build_object('runner_id', p_runner_id, 'connection', p_connection, 'now', v_number),
      'Ask over the connection that was opened last.');
  end if;
end $$;
comment on function persona._check_connection(uuid, integer) is
  'Internal. Refuses what a runner sent over a connection that it has replaced; null is not checked. PJ409.';
