create or replace function persona.drain_runner(ref text) returns persona.runners
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner persona.runners;
begin
  update persona.runners as r set drain_requested_at = coalesce(r.drain_requested_at, now())
  where r.ended_at is null and (r.name = drain_runner.ref or r.id::text = lower(drain_runner.ref))
  returning * into v_runner;
  if not found then
    perform persona._raise('PJ404', format('no live runner "%s"', drain_runner.ref),
      jsonb_build_object('ref', drain_runner.ref),
      format('Live are: %s.', coalesce(
        (select string_agg(r.name, ', ' order by r.name) from persona.runners as r where r.ended_at is null), 'none')));
  end if;
  perform pg_notify('persona_control', v_runner.id::text);
  return v_runner;
end $$;
comment on function persona.drain_runner(text) is
  'Admin API. Asks a live runner, by name or id, to take no more jobs and to end when its running ones have. PJ404.';
