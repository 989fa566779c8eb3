create or replace function persona.acknowledge_alerts(up_to bigint default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_count bigint;
begin
  update persona.alerts as a set seen_at = now()
  where a.seen_at is null and (acknowledge_alerts.up_to is null or a.id <= acknowledge_alerts.up_to);
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function persona.acknowledge_alerts(bigint) is
  'Client API. Marks alerts up to that id (null: all) as seen and returns how many.';
