-- Adds a job, or returns the one that is already there: the job of the same id, or the unfinished job of the same
-- dedupe_key, unchanged. Repeating a create whose answer was lost is therefore safe.
-- This is the path of every enqueue, and what it costs is statements and function calls: the usual job needs three
-- statements, one look at agent and type, one insert each into jobs and job_queue. Whatever is unusual, or wrong, is
-- left to the functions that know it.
-- Whether anybody is to be woken or told is seen by the second insert, whose snapshot is taken when our transaction
-- has its id from the first: see _wake.
create or replace function persona.create_job(
  job_type text,
  payload jsonb default '{}',
  agent text default null,
  id uuid default null,
  priority integer default 0,
  run_at timestamptz default null,
  timeout interval default null,
  idle_timeout interval default null,
  max_attempts integer default null,
  dedupe_key text default null,
  lock_key text default null,
  parent_job_id uuid default null,
  depends_on uuid[] default null,
  tags text[] default null,
  source_file text default null,
  source_line integer default null,
  delegated_by text default null,
  business text default null,
  depends_policy text default 'succeeded',
  limit_key text default null,
  max_cost_usd numeric default null
) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column  -- on conflict (id): arguments bear the names of columns
declare
  v_checked persona.agents;
  v_agent text;
  v_is_external boolean;
  v_needs_approval boolean := false;
  v_attempts integer;
  v_is_blind boolean;
  v_is_heard boolean;
  v_is_watched boolean;
  v_id uuid := coalesce(create_job.id, persona._new_id());
  v_run_at timestamptz := coalesce(create_job.run_at, now());
  v_parent persona.jobs;
  v_job persona.jobs;
begin
  if coalesce(create_job.depends_policy, '') not in ('succeeded', 'finished') then
    perform persona._invalid('depends_policy', create_job.depends_policy, 'one of succeeded, finished');
  elsif length(create_job.limit_key) not between 1 and 500 then
    perform persona._invalid('limit_key', left(create_job.limit_key, 100), '1 to 500 characters are allowed');
  elsif create_job.max_cost_usd <= 0 then
    perform persona._invalid('max_cost_usd', create_job.max_cost_usd::text, 'more than 0 is needed');
  end if;
  select a.name, a.is_external, coalesce(create_job.max_attempts, a.max_attempts, case when a.costs_money then 1 else 3 end)
  into v_agent, v_is_external, v_attempts
  from (values (1)) as one
  left join persona.job_types as t on t.name = create_job.job_type
  join persona.agents as a on a.name = coalesce(nullif(create_job.agent, ''), t.default_agent)
  where not a.admin_only and not a.requires_approval and a.name <> 'command'
    and not coalesce(t.requires_approval, false) and coalesce(cardinality(t.requires_one_of), 0) = 0
    and length(create_job.job_type) between 1 and 100 and jsonb_typeof(create_job.payload) = 'object'
    and pg_column_size(create_job.payload) <= 65536
    and num_nonnulls(create_job.timeout, create_job.idle_timeout, create_job.max_attempts, create_job.dedupe_key,
      create_job.lock_key) = 0;
  if not found then
    v_checked := persona._check_job(
      create_job.job_type, create_job.payload, create_job.agent, create_job.timeout, create_job.idle_timeout,
      create_job.max_attempts, create_job.dedupe_key, create_job.lock_key);
    v_agent := v_checked.name;
    v_is_external := v_checked.is_external;
    v_needs_approval := v_checked.requires_approval;
    v_attempts := coalesce(create_job.max_attempts, v_checked.max_attempts,
      case when v_checked.costs_money then 1 else 3 end);
  end if;
  if create_job.parent_job_id is not null then
    v_parent := persona._check_parent(create_job.parent_job_id);
  end if;
  loop
    insert into persona.jobs (
      id, short_id, job_type, status, status_reason, agent, business, priority, run_at, payload, timeout, idle_timeout,
      max_attempts, dedupe_key, lock_key, parent_job_id, root_job_id, depth, delegated_by, tags,
      source_file, source_line, created_by, dedupe_live, attention, limit_key, max_cost_usd)
    values (
      v_id, right(v_id::text, 8), create_job.job_type,
      case when cardinality(create_job.depends_on) > 0 then 'blocked' when v_needs_approval then 'held'
        else 'pending' end,
      case when cardinality(create_job.depends_on) > 0 then 'waits for other jobs'
        when v_needs_approval then 'needs approval' end,
      v_agent, coalesce(nullif(create_job.business, ''), v_parent.business),
      coalesce(create_job.priority, 0), v_run_at, create_job.payload, create_job.timeout, create_job.idle_timeout,
      v_attempts,
      create_job.dedupe_key, create_job.lock_key, v_parent.id, coalesce(v_parent.root_job_id, v_id),
      coalesce(v_parent.depth + 1, 0), create_job.delegated_by, coalesce(create_job.tags, '{}'),
      create_job.source_file, create_job.source_line, persona._caller(), create_job.dedupe_key,
      case when cardinality(create_job.depends_on) > 0 then 'blocked' when v_needs_approval then 'held' end,
      create_job.limit_key, create_job.max_cost_usd)
    on conflict do nothing
    returning * into v_job;
    exit when found;

    select * into v_job from persona.jobs as j where j.id = v_id;
    if found then
      return v_job;
    end if;
    select * into v_job from persona.jobs as j
    where j.dedupe_live = persona._tenant_key(
      coalesce(nullif(create_job.business, ''), v_parent.business, (persona.my_tenants())[1]), create_job.dedupe_key);
    if found then
      return v_job;
    end if;
    perform persona._refuse_foreign_id(v_id);
    -- The live job of that key ended between the two statements: try again.
  end loop;

  if v_job.status = 'pending' then
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
    values (v_job.seq, v_job.id, v_job.agent, v_job.priority, v_job.run_at, v_job.lock_key,
      case when v_is_external then 'external' when v_run_at > now() then 'time' end)
    returning current_setting('transaction_isolation') <> 'read committed', exists (select from persona.idle_runners),
      exists (select from persona.watchers) into v_is_blind, v_is_heard, v_is_watched;
    if v_is_blind or v_is_heard then
      perform persona._wake(v_job.agent);
    end if;
    if v_is_blind or v_is_watched then
      perform persona._announce(null);
    end if;
    return v_job;
  end if;
  perform persona._announce(null);
  if v_job.status = 'held' then
    perform persona._ask_approval(v_job.id);
    return v_job;
  end if;
  return persona._add_dependencies(v_job.id, create_job.depends_on, create_job.depends_policy);
end $$;
comment on function persona.create_job(
  text, jsonb, text, uuid, integer, timestamptz, interval, interval, integer, text, text, uuid, uuid[], text[],
  text, integer, text, text, text, text, numeric) is
  'Client API. Creates a job and returns its row; the same id, or the dedupe_key of an unfinished job, returns that job unchanged. PJ422 names a bad argument, PJ403 an agent that only admins may use.';
