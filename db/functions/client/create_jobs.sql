-- Many jobs in one statement. Each object has the keys of create_job's arguments; an unknown key is refused.
-- Plain jobs go in together; those with a parent or with dependencies one by one, in the order given, and so where
-- any agent or type requires approval.
create or replace function persona.create_jobs(jobs jsonb) returns setof uuid
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_bad text;
  v_special boolean;
  v_kind record;
  v_done integer;
  v_ids uuid[];
  v_given integer;
begin
  if create_jobs.jobs is null or jsonb_typeof(create_jobs.jobs) <> 'array' then
    perform persona._invalid('jobs', left(create_jobs.jobs::text, 200), 'a JSON array of objects is needed');
  end if;
  v_given := jsonb_array_length(create_jobs.jobs);
  if pg_column_size(create_jobs.jobs) > persona._setting('max_payload_bytes')::bigint then
    perform persona._check_payload(e.job -> 'payload') from jsonb_array_elements(create_jobs.jobs) as e (job);
  end if;
  select k.key into v_bad
  from jsonb_array_elements(create_jobs.jobs) as e (job)
  cross join lateral jsonb_object_keys(case jsonb_typeof(e.job) when 'object' then e.job else '{"": 0}' end) as k (key)
  where k.key not in (
    'job_type', 'payload', 'agent', 'id', 'priority', 'run_at', 'timeout', 'idle_timeout', 'max_attempts',
    'dedupe_key', 'lock_key', 'parent_job_id', 'depends_on', 'tags', 'source_file', 'source_line',
    'delegated_by', 'business', 'depends_policy', 'limit_key', 'max_cost_usd')
  limit 1;
  if found then
    perform persona._invalid('jobs', nullif(v_bad, ''), 'each element is an object with the argument names of create_job as keys');
  end if;

  select bool_or(e.job ?| array['parent_job_id', 'depends_on']) into v_special
  from jsonb_array_elements(create_jobs.jobs) as e (job);
  if v_special
     or exists (select from persona.agents as a where a.requires_approval)
     or exists (select from persona.job_types as t where t.requires_approval)
  then
    return query
      select (persona.create_job(
        i.job_type, coalesce(i.payload, '{}'), i.agent, i.id, coalesce(i.priority, 0), i.run_at, i.timeout,
        i.idle_timeout, i.max_attempts, i.dedupe_key, i.lock_key, i.parent_job_id, i.depends_on, i.tags,
        i.source_file, i.source_line, i.delegated_by, i.business, coalesce(i.depends_policy, 'succeeded'),
        i.limit_key, i.max_cost_usd)).id
      from persona._job_items(create_jobs.jobs) as i
      order by i.n;
    return;
  end if;

  select i.max_cost_usd::text into v_bad from persona._job_items(create_jobs.jobs) as i where i.max_cost_usd <= 0 limit 1;
  if found then
    perform persona._invalid('max_cost_usd', v_bad, 'more than 0 is needed');
  end if;
  -- The rules are checked once for each different kind of job, the rest is left to the table's constraints.
  for v_kind in
    select i.job_type, i.agent, i.timeout, i.idle_timeout, i.max_attempts,
      min(length(i.dedupe_key)) as dedupe_min, max(length(i.dedupe_key)) as dedupe_max,
      min(length(i.lock_key)) as lock_min, max(length(i.lock_key)) as lock_max,
      (array_agg(i.payload order by i.n))[1] as payload
    from persona._job_items(create_jobs.jobs) as i
    group by i.job_type, i.agent, i.timeout, i.idle_timeout, i.max_attempts
  loop
    perform persona._check_job(
      v_kind.job_type, coalesce(v_kind.payload, '{}'), v_kind.agent, v_kind.timeout, v_kind.idle_timeout,
      v_kind.max_attempts,
      case when v_kind.dedupe_min < 1 then '' when v_kind.dedupe_max > 500 then repeat('x', 501) end,
      case when v_kind.lock_min < 1 then '' when v_kind.lock_max > 500 then repeat('x', 501) end);
  end loop;
  select i.payload::text into v_bad
  from persona._job_items(create_jobs.jobs) as i
  where jsonb_typeof(i.payload) <> 'object' limit 1;
  if found then
    perform persona._invalid('payload', v_bad, 'a JSON object is needed');
  end if;
  select coalesce(i.payload::text, '{}') into v_bad
  from persona._job_items(create_jobs.jobs) as i
  left join persona.job_types as t on t.name = i.job_type
  where coalesce(nullif(i.agent, ''), t.default_agent, persona._setting('default_agent')) = 'command' and not coalesce(
    jsonb_typeof(i.payload -> 'argv') = 'array' and jsonb_array_length(i.payload -> 'argv') > 0, false)
  limit 1;
  if found then
    perform persona._invalid('payload', v_bad, 'agent command needs argv, an array of the program and its arguments');
  end if;
  select i.payload::text into v_bad
  from persona._job_items(create_jobs.jobs) as i
  join persona.job_types as t on t.name = i.job_type and cardinality(t.requires_one_of) > 0
  where not exists (
    select from unnest(t.requires_one_of) as k (key) where btrim(i.payload ->> k.key) <> '')
  limit 1;
  if found then
    perform persona._invalid('payload', v_bad, 'the job type needs text in one of its required keys (see job_types)');
  end if;

  v_ids := array(
    select coalesce(i.id, persona._new_id()) from persona._job_items(create_jobs.jobs) as i order by i.n);
  with made as (
    insert into persona.jobs (
      id, short_id, job_type, agent, business, priority, run_at, payload, timeout, idle_timeout, max_attempts, dedupe_key,
      lock_key, root_job_id, delegated_by, tags, source_file, source_line, created_by, dedupe_live, limit_key,
      max_cost_usd)
    select v_ids[i.n], right(v_ids[i.n]::text, 8), i.job_type, a.name, nullif(i.business, ''), coalesce(i.priority, 0),
      coalesce(i.run_at, now()), coalesce(i.payload, '{}'), i.timeout, i.idle_timeout,
      coalesce(i.max_attempts, a.max_attempts, case when a.costs_money then 1 else 3 end),
      i.dedupe_key, i.lock_key, v_ids[i.n], i.delegated_by, coalesce(i.tags, '{}'),
      i.source_file, i.source_line, persona._caller(), i.dedupe_key, nullif(i.limit_key, ''),
      i.max_cost_usd
    from persona._job_items(create_jobs.jobs) as i
    left join persona.job_types as t on t.name = i.job_type
    join persona.agents as a
      on a.name = coalesce(nullif(i.agent, ''), t.default_agent, persona._setting('default_agent'))
    order by i.n
    on conflict do nothing
    returning jobs.id, jobs.seq, jobs.agent, jobs.priority, jobs.run_at, jobs.lock_key
  ), queued as (
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
    select m.seq, m.id, m.agent, m.priority, m.run_at, m.lock_key,
      case when a.is_external then 'external' when m.run_at > now() then 'time' end
    from made as m
    join persona.agents as a on a.name = m.agent
    returning 1
  )
  select count(*) into v_done from queued;

  perform persona._wake(w.agent)
  from (
    select distinct coalesce(nullif(i.agent, ''), t.default_agent, persona._setting('default_agent')) as agent
    from persona._job_items(create_jobs.jobs) as i
    left join persona.job_types as t on t.name = i.job_type) as w;
  perform persona._announce(null);

  if v_done = v_given then
    return query select u.id from unnest(v_ids) with ordinality as u (id, n) order by u.n;
  else
    -- Some were there already. create_job answers for each of them, also where a live one has just ended.
    return query
      select (persona.create_job(
        i.job_type, coalesce(i.payload, '{}'), i.agent, v_ids[i.n], coalesce(i.priority, 0), i.run_at, i.timeout,
        i.idle_timeout, i.max_attempts, i.dedupe_key, i.lock_key, null, null, i.tags, i.source_file,
        i.source_line, i.delegated_by, i.business, 'succeeded', i.limit_key,
        i.max_cost_usd)).id
      from persona._job_items(create_jobs.jobs) as i
      order by i.n;
  end if;
exception when data_exception then
  -- A value that does not fit its column, such as a word for the priority.
  perform persona._invalid('jobs', left(create_jobs.jobs::text, 200), sqlerrm);
end $$;
comment on function persona.create_jobs(jsonb) is
  'Client API. Creates the jobs of a JSON array (objects with the argument names of create_job) in one statement and returns their ids in that order. All or none. PJ422, PJ403.';
