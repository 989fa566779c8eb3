-- The runner row under which programs outside hold their leases: bridge:HOST. The host comes from the wrapper, as
-- the application name; else it is the client's address. It serves no agent, so nobody takes it for a runner.
create or replace function persona._bridge_driver() returns persona.runners
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_host text := left(coalesce(
    nullif(substring(current_setting('application_name') from '^bridge:(.*)$'), ''), host(inet_client_addr()),
    'local'), 100);
  v_runner persona.runners;
begin
  for v_try in 1..10 loop
    select * into v_runner from persona.runners as r where r.name = 'bridge:' || v_host and r.ended_at is null;
    if found then
      -- It is a hot row where many scripts report: one write in ten seconds is enough.
      update persona.runners as r set last_seen_at = now()
      where r.id = v_runner.id and r.last_seen_at < now() - interval '10 seconds';
      return v_runner;
    end if;
    insert into persona.runners (id, name, hostname, pid, protocol, capacity, agents, lease)
    values (persona._new_id(), 'bridge:' || v_host, v_host, 0, persona._setting('max_protocol')::integer, 1, '{}',
      make_interval(secs => persona._setting('bridge_lease_seconds')::double precision))
    on conflict do nothing;
  end loop;
  perform persona._raise('40001', format('runner row bridge:%s comes and goes', v_host), null, null);
  return null;
end $$;
comment on function persona._bridge_driver() is 'Internal. The runner row of the caller of the bridge.';
