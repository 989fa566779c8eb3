-- A waiting delivery that somebody else has locked is not waited for: a second one is made then.
create or replace function persona._deliver_alert(p_rule persona.alert_rules, p_alert persona.alerts) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  c_most constant integer := 50;
  v_id uuid;
  v_line jsonb := jsonb_build_object(
    'id', p_alert.id, 'kind', p_alert.kind, 'message', p_alert.message, 'job_id', p_alert.job_id,
    'detail', p_alert.detail, 'created_at', p_alert.created_at);
begin
  if p_rule.delivery = '{}' then
    return;
  end if;
  select j.id into v_id
  from persona.job_queue as q
  join persona.jobs as j on j.id = q.job_id
  where q.agent = 'alert' and j.payload ->> 'rule' = p_rule.name and j.payload -> 'delivery' = p_rule.delivery
    and j.attempt = 0 and jsonb_typeof(j.payload -> 'alerts') = 'array'
  order by q.seq desc limit 1
  for no key update of j skip locked;
  if found then
    update persona.jobs as j
    set payload = case
          when jsonb_array_length(j.payload -> 'alerts') < c_most
            then jsonb_set(j.payload, '{alerts}', (j.payload -> 'alerts') || v_line)
          else jsonb_set(j.payload, '{more}', to_jsonb(coalesce((j.payload ->> 'more')::integer, 0) + 1))
        end,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = v_id;
  else
    perform persona._plant_job(jsonb_build_object(
      'job_type', 'alert', 'agent', 'alert', 'priority', 100, 'tags', jsonb_build_array('alert'),
      'payload', jsonb_build_object(
        'rule', p_rule.name, 'delivery', p_rule.delivery, 'alerts', jsonb_build_array(v_line))));
  end if;
end $$;
comment on function persona._deliver_alert(persona.alert_rules, persona.alerts) is
  'Internal. Adds an alert to the waiting delivery of a rule, or makes one.';
