-- Many jobs in one statement. Each object has the keys of create_job's arguments; an unknown key is refused.
-- Plain jobs go in together; those with a parent or with dependencies one by one, in the order given, and so where
-- any agent or type requires approval.
create or replace function persona.create_jobs(jobs jsonb) returns setof uuid
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_known constant text[] := array[
    'job_type', 'payload', 'agent', 'id', 'priority', 'run_at', 'timeout', 'idle_timeout', 'max_attempts',
    'dedupe_key', 'lock_key', 'parent_job_id', 'depends_on', 'tags', 'source_file', 'source_line',
    'delegated_by', 'business', 'depends_policy', 'limit_key', 'max_cost_usd'];
  v_shape record;
  v_odd jsonb;
  v_kind record;
  v_agent persona.agents;
  v_agents text[] := array[]::text[];
  v_ids uuid[];
begin
  if create_jobs.jobs is null or jsonb_typeof(create_jobs.jobs) <> 'array' then
    perform persona._invalid('jobs', left(create_jobs.jobs::text, 200), 'a JSON array of objects is needed');
  end if;
  if pg_column_size(create_jobs.jobs) > persona._setting('max_payload_bytes')::bigint then
    perform persona._check_payload(e.job -> 'payload') from jsonb_array_elements(create_jobs.jobs) as e (job);
  end if;
  select bool_or(e.job ?| array['parent_job_id', 'depends_on']) as has_relatives,
    min(e.n) filter (where case jsonb_typeof(e.job) when 'object' then e.job - v_known <> '{}' else true end) as odd_n
  into v_shape
  from jsonb_array_elements(create_jobs.jobs) with ordinality as e (job, n);
  if v_shape.odd_n is not null then
    v_odd := create_jobs.jobs -> (v_shape.odd_n - 1)::integer;
    perform persona._invalid('jobs',
      case jsonb_typeof(v_odd)
        when 'object' then (select k.key from jsonb_object_keys(v_odd - v_known) as k (key) limit 1)
        else v_odd::text
      end, 'each element is an object with the argument names of create_job as keys');
  end if;

  if v_shape.has_relatives
     or exists (select from persona.agents as a where a.requires_approval)
     or exists (select from persona.job_types as t where t.requires_approval)
  then
    return query select * from persona._create_each(create_jobs.jobs);
    return;
  end if;

  -- The rules are checked once for each different kind of job, with a payload that breaks one where there is such;
  -- the rest is left to the table's constraints. Each pass over the array costs as much as a row in two tables.
  for v_kind in
    select i.job_type, i.agent, i.timeout, i.idle_timeout, i.max_attempts,
      min(length(i.dedupe_key)) as dedupe_min, max(length(i.dedupe_key)) as dedupe_max,
      min(length(i.lock_key)) as lock_min, max(length(i.lock_key)) as lock_max, min(i.max_cost_usd) as cost_min,
      max(length(i.limit_key)) as limit_max,
      coalesce(
        min(i.n) filter (where jsonb_typeof(i.payload) <> 'object'),
        min(i.n) filter (where case when cardinality(t.requires_one_of) > 0 then not exists (
          select from unnest(t.requires_one_of) as k (key) where btrim(i.payload ->> k.key) <> '') end),
        min(i.n) filter (where case jsonb_typeof(i.payload -> 'argv')
          when 'array' then jsonb_array_length(i.payload -> 'argv') = 0 else true end),
        min(i.n)) as n
    from persona._job_items(create_jobs.jobs) as i
    left join persona.job_types as t on t.name = i.job_type
    group by i.job_type, i.agent, i.timeout, i.idle_timeout, i.max_attempts
  loop
    if v_kind.cost_min <= 0 then
      perform persona._invalid('max_cost_usd', v_kind.cost_min::text, 'more than 0 is needed');
    elsif v_kind.limit_max > 500 then
      perform persona._invalid('limit_key', format('(%s characters)', v_kind.limit_max), '1 to 500 characters are allowed');
    end if;
    v_agent := persona._check_job(
      v_kind.job_type, coalesce(nullif(create_jobs.jobs -> (v_kind.n - 1)::integer -> 'payload', 'null'), '{}'),
      v_kind.agent, v_kind.timeout, v_kind.idle_timeout, v_kind.max_attempts,
      case when v_kind.dedupe_min < 1 then '' when v_kind.dedupe_max > 500 then repeat('x', 501) end,
      case when v_kind.lock_min < 1 then '' when v_kind.lock_max > 500 then repeat('x', 501) end);
    if v_agent.name <> all(v_agents) then
      v_agents := v_agents || v_agent.name;
    end if;
  end loop;

  with item as materialized (
    select i.n, coalesce(i.id, persona._new_id()) as id, i.job_type, a.name as agent, a.is_external,
      nullif(i.business, '') as business, coalesce(i.priority, 0) as priority, coalesce(i.run_at, now()) as run_at,
      coalesce(i.payload, '{}') as payload, i.timeout, i.idle_timeout,
      coalesce(i.max_attempts, a.max_attempts, case when a.costs_money then 1 else 3 end) as max_attempts,
      i.dedupe_key, i.lock_key, i.delegated_by, coalesce(i.tags, '{}') as tags, i.source_file, i.source_line,
      nullif(i.limit_key, '') as limit_key, i.max_cost_usd
    from persona._job_items(create_jobs.jobs) as i
    left join persona.job_types as t on t.name = i.job_type
    join persona.agents as a
      on a.name = coalesce(nullif(i.agent, ''), t.default_agent, persona._setting('default_agent'))
  ), made as (
    insert into persona.jobs (
      id, short_id, job_type, agent, business, priority, run_at, payload, timeout, idle_timeout, max_attempts, dedupe_key,
      lock_key, root_job_id, delegated_by, tags, source_file, source_line, created_by, dedupe_live, limit_key,
      max_cost_usd, created_xid)
    select i.id, right(i.id::text, 8), i.job_type, i.agent, i.business, i.priority, i.run_at, i.payload, i.timeout,
      i.idle_timeout, i.max_attempts, i.dedupe_key, i.lock_key, i.id, i.delegated_by, i.tags,
      i.source_file, i.source_line, (select persona._caller()), i.dedupe_key, i.limit_key, i.max_cost_usd,
      -- Its default, reckoned once instead of for each row.
      (select pg_current_xact_id()::text::bigint)
    from item as i
    order by i.n
    returning jobs.id, jobs.seq, jobs.agent, jobs.priority, jobs.run_at, jobs.lock_key
  ), queued as (
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
    select m.seq, m.id, m.agent, m.priority, m.run_at, m.lock_key,
      case when a.is_external then 'external' when m.run_at > now() then 'time' end
    from made as m
    join persona.agents as a on a.name = m.agent
  )
  select array(select i.id from item as i order by i.n) into v_ids;

  perform persona._wake(w.agent) from unnest(v_agents) as w (agent);
  perform persona._announce(null);

  return query select u.id from unnest(v_ids) with ordinality as u (id, n) order by u.n;
exception
  when unique_violation then
    -- Some were there already: it costs less to find that out here than to ask for each row of every call.
    return query select * from persona._create_each(create_jobs.jobs);
  when data_exception then
    -- A value that does not fit its column, such as a word for the priority.
    perform persona._invalid('jobs', left(create_jobs.jobs::text, 200), sqlerrm);
end $$;
comment on function persona.create_jobs(jsonb) is
  'Client API. Creates the jobs of a JSON array (objects with the argument names of create_job) in one statement and returns their ids in that order. All or none. PJ422, PJ403.';
