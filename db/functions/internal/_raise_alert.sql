-- The one way to tell people something. The alert is kept in any case; each rule that fits makes a job of the agent
-- alert that delivers it. While a delivery of the rule waits, further alerts go with it: a storm of failures makes a
-- few messages. Jobs of that agent raise nothing, so that alerts are never about alerts.
create or replace function persona._raise_alert(
  p_kind text, p_job_id uuid, p_message text, p_detail jsonb default '{}', p_dedupe_key text default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs;
  v_detail jsonb := coalesce(p_detail, '{}');
  v_alert persona.alerts;
  v_rule persona.alert_rules;
begin
  if p_job_id is not null then
    select * into v_job from persona.jobs as j where j.id = p_job_id;
    if v_job.agent = 'alert' then
      return null;
    end if;
    v_detail := jsonb_strip_nulls(jsonb_build_object(
      'agent', v_job.agent, 'job_type', v_job.job_type, 'business', v_job.business,
      'failure_kind', v_job.failure_kind, 'attempt', v_job.attempt, 'short_id', v_job.short_id,
      'is_exhausted', v_job.status = 'failed' and v_job.attempt >= v_job.max_attempts)) || v_detail;
  end if;
  insert into persona.alerts (kind, job_id, message, detail, dedupe_key)
  values (p_kind, p_job_id, left(p_message, 2000), v_detail, p_dedupe_key)
  on conflict do nothing
  returning * into v_alert;
  if not found then
    return null;
  end if;
  for v_rule in
    select * from persona.alert_rules as r
    where r.is_active and r.kind in (p_kind, '*') and r.name = coalesce(v_detail ->> 'rule', r.name)
      and persona._fits(v_detail, r.condition)
    order by r.name
  loop
    perform persona._deliver_alert(v_rule, v_alert);
  end loop;
  return v_alert.id;
end $$;
comment on function persona._raise_alert(text, uuid, text, jsonb, text) is
  'Internal. Keeps an alert and has it delivered as the rules say; null where one of that dedupe key exists, or where it is about a delivery.';
