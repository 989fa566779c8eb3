-- Rules on the age of what could run and does not: one alert when it becomes too old, the next one after it was well
-- again. Jobs that wait for their time or for a lock are not late. Deliveries do not count: they may be what waits.
create or replace function persona._watch_queue_age() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_rule persona.alert_rules;
  v_oldest record;
begin
  for v_rule in
    select * from persona.alert_rules as r
    where r.kind = 'queue_age' and r.is_active
    order by r.name for no key update skip locked
  loop
    select q.job_id, q.agent, extract(epoch from now() - q.run_at)::bigint as seconds into v_oldest
    from persona.job_queue as q
    where (q.waits_on is null or q.waits_on = 'time' and q.run_at <= now()) and q.agent <> 'alert'
      and persona._fits(jsonb_build_object('agent', q.agent), v_rule.condition - 'seconds')
    order by q.run_at limit 1;
    if coalesce(v_oldest.seconds, 0) < coalesce((v_rule.condition ->> 'seconds')::numeric, 3600) then
      update persona.alert_rules as r set firing_since = null
      where r.name = v_rule.name and r.firing_since is not null;
    elsif v_rule.firing_since is null then
      update persona.alert_rules as r set firing_since = now() where r.name = v_rule.name;
      perform persona._raise_alert('queue_age', v_oldest.job_id,
        format('a job of agent %s has been waiting for %s s (rule %s)', v_oldest.agent, v_oldest.seconds, v_rule.name),
        jsonb_build_object('seconds', v_oldest.seconds, 'rule', v_rule.name));
    end if;
  end loop;
end $$;
comment on function persona._watch_queue_age() is 'Internal. Raises queue_age alerts where a rule asks for it.';
