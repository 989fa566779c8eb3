create or replace function persona.remove_alert_rule(name text) returns persona.alert_rules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_rule persona.alert_rules;
begin
  delete from persona.alert_rules as r where r.name = remove_alert_rule.name returning r.* into v_rule;
  if not found then
    perform persona._raise('PJ404', format('there is no alert rule %s', remove_alert_rule.name),
      jsonb_build_object('name', remove_alert_rule.name), 'persona alerts rules lists them.');
  end if;
  return v_rule;
end $$;
comment on function persona.remove_alert_rule(text) is 'Admin API. Removes a rule; what it has raised stays. PJ404.';
