create or replace function persona.drain_outdated_runners() returns setof text
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner record;
begin
  for v_runner in
    select r.id, r.name from persona.runners as r
    where r.ended_at is null and r.protocol < persona._setting('max_protocol')::integer
      and r.last_seen_at > now() - r.lease
    order by r.name
  loop
    perform persona.drain_runner(v_runner.id::text);
    return next v_runner.name;
  end loop;
end $$;
comment on function persona.drain_outdated_runners() is
  'Admin API. Asks all live runners of an older protocol than the newest one served to take no more jobs and to end when their running ones have; returns their names.';
