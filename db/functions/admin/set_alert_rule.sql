-- Makes a rule or replaces it as a whole.
create or replace function persona.set_alert_rule(
  name text, kind text default '*', delivery jsonb default '{"to": "webhook"}', condition jsonb default '{}',
  is_active boolean default true
) returns persona.alert_rules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  c_kinds constant text[] := array['job_failed', 'job_held', 'job_hung', 'gate_closed', 'budget', 'queue_age', 'schedule', 'test', '*'];
  c_ways constant text[] := array['webhook', 'slack', 'discord', 'mail', 'command'];
  v_to text := set_alert_rule.delivery ->> 'to';
  v_url_from text := set_alert_rule.delivery ->> 'url_from';
  v_rule persona.alert_rules;
begin
  if coalesce(set_alert_rule.name, '') !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
    perform persona._invalid('name', set_alert_rule.name,
      'lower case letters, digits, ".", "_" and "-" are allowed, at most 63, beginning with a letter or digit');
  elsif set_alert_rule.kind is null or set_alert_rule.kind <> all(c_kinds) then
    perform persona._invalid('kind', set_alert_rule.kind, 'one of: ' || array_to_string(c_kinds, ', '));
  elsif coalesce(jsonb_typeof(set_alert_rule.condition), '') <> 'object' then
    perform persona._invalid('condition', set_alert_rule.condition::text, 'a JSON object is needed, such as {"failure_kind": ["auth"]}');
  elsif set_alert_rule.kind = 'queue_age'
    and coalesce(jsonb_typeof(set_alert_rule.condition -> 'seconds'), 'number') <> 'number'
  then
    perform persona._invalid('condition', set_alert_rule.condition::text, 'seconds is a number');
  elsif coalesce(jsonb_typeof(set_alert_rule.delivery), '') <> 'object' or v_to is null or v_to <> all(c_ways) then
    perform persona._invalid('delivery', set_alert_rule.delivery::text, '{"to": ...} with one of: ' || array_to_string(c_ways, ', '));
  elsif v_url_from is not null and v_url_from !~ '^ALERT_[A-Z0-9_]{1,60}$' then
    perform persona._invalid('delivery', v_url_from,
      'url_from is the name of an environment variable of the runner that begins with ALERT_, never the address itself');
  elsif exists (
    select from jsonb_object_keys(set_alert_rule.delivery) as k (key) where k.key not in ('to', 'url_from', 'argv'))
  then
    perform persona._invalid('delivery', set_alert_rule.delivery::text, 'the keys are to, url_from and argv');
  elsif v_to = 'command' and not coalesce(
    jsonb_typeof(set_alert_rule.delivery -> 'argv') = 'array'
    and jsonb_array_length(set_alert_rule.delivery -> 'argv') > 0, false)
  then
    perform persona._invalid('delivery', set_alert_rule.delivery::text, 'command needs argv, an array of the program and its arguments');
  end if;
  insert into persona.alert_rules as r (name, kind, condition, delivery, is_active)
  values (
    set_alert_rule.name, set_alert_rule.kind, set_alert_rule.condition, set_alert_rule.delivery,
    coalesce(set_alert_rule.is_active, true))
  on conflict (name) do update
  set kind = excluded.kind, condition = excluded.condition, delivery = excluded.delivery,
      is_active = excluded.is_active, firing_since = null
  returning * into v_rule;
  return v_rule;
end $$;
comment on function persona.set_alert_rule(text, text, jsonb, jsonb, boolean) is
  'Admin API. Makes or replaces a rule that has alerts delivered. condition narrows it (see alert_rules); delivery names the way, and addresses only by the name of a variable of the runner. PJ422.';
