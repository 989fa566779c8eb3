-- Creates a job in the name of an admin, who has said beforehand what it is: rules and schedules. Whoever happens to
-- call (a runner, a client whose job failed) need not have the right to create it.
create or replace function persona._plant_job(p_job jsonb, p_status_reason text default null) returns uuid
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_given record;
  v_agent persona.agents;
  v_id uuid := persona._new_id();
  v_job persona.jobs;
  v_is_held boolean;
begin
  select i.* into v_given from persona._job_items(jsonb_build_array(p_job)) as i;
  select a.* into v_agent from persona.agents as a
  left join persona.job_types as t on t.name = v_given.job_type
  where a.name = coalesce(nullif(v_given.agent, ''), t.default_agent, persona._setting('default_agent'));
  if not found then
    perform persona._unknown_agent('agent', v_given.agent);
  end if;
  v_is_held := persona._needs_approval(v_agent.name, v_given.job_type);
  insert into persona.jobs (
    id, short_id, job_type, status, status_reason, agent, business, priority, run_at, payload, timeout, idle_timeout,
    max_attempts, dedupe_key, lock_key, root_job_id, tags, source_file, source_line, created_by, dedupe_live, attention,
    limit_key, max_cost_usd)
  values (
    v_id, right(v_id::text, 8), v_given.job_type, case when v_is_held then 'held' else 'pending' end,
    case when v_is_held then 'needs approval' else p_status_reason end, v_agent.name, v_given.business,
    coalesce(v_given.priority, 0), coalesce(v_given.run_at, now()), coalesce(v_given.payload, '{}'), v_given.timeout,
    v_given.idle_timeout,
    coalesce(v_given.max_attempts, v_agent.max_attempts, case when v_agent.costs_money then 1 else 3 end),
    v_given.dedupe_key, v_given.lock_key, v_id, coalesce(v_given.tags, '{}'), v_given.source_file,
    v_given.source_line, persona._caller(), v_given.dedupe_key, case when v_is_held then 'held' end,
    v_given.limit_key, v_given.max_cost_usd)
  on conflict do nothing
  returning * into v_job;
  if not found then
    return (select j.id from persona.jobs as j where j.dedupe_live = persona._tenant_key(v_given.business, v_given.dedupe_key));
  end if;
  perform persona._announce(null);
  if v_is_held then
    perform persona._ask_approval(v_job.id);
    return v_job.id;
  end if;
  insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
  values (v_job.seq, v_job.id, v_job.agent, v_job.priority, v_job.run_at, v_job.lock_key,
    case when v_agent.is_external then 'external' when v_job.run_at > now() then 'time' end);
  perform persona._wake(v_job.agent);
  return v_job.id;
end $$;
comment on function persona._plant_job(jsonb, text) is
  'Internal. Creates a plain job from the arguments of create_job without asking for the caller''s rights; the unfinished job of its dedupe key instead, if there is one.';
