create or replace function persona._check_scheduled_job(p_job jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_item record;
  v_bad text;
begin
  select k.key into v_bad
  from jsonb_object_keys(case jsonb_typeof(p_job) when 'object' then p_job else '{"": 0}' end) as k (key)
  where k.key not in (
    'job_type', 'payload', 'agent', 'priority', 'timeout', 'idle_timeout', 'max_attempts', 'lock_key', 'tags',
    'source_file', 'source_line', 'business')
  limit 1;
  if found then
    perform persona._invalid('job', coalesce(nullif(v_bad, ''), p_job::text),
      'an object with arguments of create_job: job_type, payload, agent, priority, timeout, idle_timeout, max_attempts, lock_key, tags, source_file, source_line, business');
  end if;
  select i.* into v_item from persona._job_items(jsonb_build_array(p_job)) as i;
  perform persona._check_job(v_item.job_type, coalesce(v_item.payload, '{}'), v_item.agent, v_item.timeout,
    v_item.idle_timeout, v_item.max_attempts, null, v_item.lock_key);
exception when data_exception then
  perform persona._invalid('job', p_job::text, sqlerrm);
end $$;
comment on function persona._check_scheduled_job(jsonb) is 'Internal. Refuses a job that create_job would refuse. PJ422, PJ403.';
