-- Rules are bypassed as to their kind and condition: what is tested is the way to the reader.
create or replace function persona.test_alert(rule text default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_alert persona.alerts;
begin
  if test_alert.rule is not null
     and not exists (select from persona.alert_rules as r where r.name = test_alert.rule)
  then
    perform persona._raise('PJ404', format('there is no alert rule %s', test_alert.rule),
      jsonb_build_object('name', test_alert.rule), 'persona alerts rules lists them.');
  end if;
  insert into persona.alerts (kind, message, detail, seen_at)
  values ('test', 'This is a test: alerts arrive.', jsonb_build_object('sent_by', persona._caller()), now())
  returning * into v_alert;
  perform persona._deliver_alert(r, v_alert)
  from persona.alert_rules as r
  where r.name = coalesce(test_alert.rule, r.name) and r.is_active;
  return v_alert.id;
end $$;
comment on function persona.test_alert(text) is
  'Admin API. Sends a test alert through one rule (null: all active ones), whatever they watch. PJ404.';
