-- Optimistic update: the caller names the updated_at it has read, and the UPDATE itself compares it (P12).
create or replace function persona.update_job(ref text, expected_updated_at timestamptz, changes jsonb)
returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_id uuid := persona.resolve_job(update_job.ref);
  v_old persona.jobs;
  v_new persona.jobs;
  v_agent persona.agents;
  v_bad text;
begin
  if update_job.changes is null or jsonb_typeof(update_job.changes) <> 'object' then
    perform persona._invalid('changes', update_job.changes::text, 'a JSON object is needed');
  end if;
  select k.key into v_bad from jsonb_object_keys(update_job.changes) as k (key)
  where k.key not in ('priority', 'run_at', 'payload', 'agent', 'timeout', 'idle_timeout', 'max_attempts', 'tags',
    'max_cost_usd', 'lock_key', 'dedupe_key', 'source_file', 'source_line', 'business')
  limit 1;
  if found then
    perform persona._invalid('changes', v_bad,
      'these may change: priority, run_at, payload, agent, timeout, idle_timeout, max_attempts, tags, max_cost_usd, lock_key, dedupe_key, source_file, source_line, business');
  end if;
  if update_job.expected_updated_at is null then
    perform persona._invalid('expected_updated_at', null, 'give the updated_at of the row you have read');
  end if;

  select * into v_old from persona.jobs as j where j.id = v_id for no key update;
  if v_old.updated_at <> update_job.expected_updated_at then
    perform persona._raise('PJ409',
      format('job %s has changed since you read it (%s, now %s)', v_old.short_id,
        update_job.expected_updated_at, v_old.updated_at),
      jsonb_build_object('id', v_old.id, 'expected', update_job.expected_updated_at, 'actual', v_old.updated_at),
      'Read it again and decide again.');
  end if;
  if v_old.status not in ('blocked', 'pending', 'held') then
    perform persona._raise('PJ423',
      format('job %s is %s: only a job that has not started can be changed', v_old.short_id, v_old.status),
      jsonb_build_object('id', v_old.id, 'from', v_old.status, 'to', v_old.status), null);
  end if;
  begin
    v_new := jsonb_populate_record(v_old, update_job.changes);
  exception when data_exception then
    perform persona._invalid('changes', update_job.changes::text, sqlerrm);
  end;
  if v_new.max_cost_usd <= 0 then
    perform persona._invalid('max_cost_usd', v_new.max_cost_usd::text, 'more than 0 is needed');
  end if;
  v_agent := persona._check_job(v_new.job_type, v_new.payload, v_new.agent, v_new.timeout, v_new.idle_timeout,
    v_new.max_attempts, v_new.dedupe_key, v_new.lock_key);

  update persona.jobs as j
  set priority = coalesce(v_new.priority, 0), run_at = coalesce(v_new.run_at, now()), payload = v_new.payload,
      agent = v_agent.name, timeout = v_new.timeout, idle_timeout = v_new.idle_timeout,
      max_attempts = coalesce(v_new.max_attempts, j.max_attempts), tags = coalesce(v_new.tags, '{}'),
      max_cost_usd = v_new.max_cost_usd,
      lock_key = v_new.lock_key, dedupe_key = v_new.dedupe_key, source_file = v_new.source_file,
      source_line = v_new.source_line, business = v_new.business,
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = v_id and j.updated_at = update_job.expected_updated_at
  returning * into v_new;
  return v_new;
exception when unique_violation then
  perform persona._raise('PJ409',
    format('another unfinished job has the dedupe key "%s"', update_job.changes ->> 'dedupe_key'),
    jsonb_build_object('id', v_id, 'dedupe_key', update_job.changes ->> 'dedupe_key'),
    'Choose another key, or change that job.');
  return null;
end $$;
comment on function persona.update_job(text, timestamptz, jsonb) is
  'Client API. Changes a job that has not started, if its updated_at is still the expected one. PJ409 where it is not, PJ422, PJ423, PJ404.';
