-- Takes over jobs of another queue as they were: finished ones as finished history, all others held until a person
-- releases them (release_job wakes a runner then). Nothing imported is claimable, so nothing here touches job_queue,
-- sends a notification, raises an alert or books a cost. An id that is there already is left as it is, so that a
-- second import changes nothing. In the order given: a parent comes before its children.
create or replace function persona.import_jobs(jobs jsonb) returns table (id uuid, outcome text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_item record;
  v_bad text;
  v_parent persona.jobs;
  v_ended boolean;
begin
  if import_jobs.jobs is null or jsonb_typeof(import_jobs.jobs) <> 'array' then
    perform persona._invalid('jobs', left(import_jobs.jobs::text, 200), 'a JSON array of objects is needed');
  end if;
  select k.key into v_bad
  from jsonb_array_elements(import_jobs.jobs) as e (job)
  cross join lateral jsonb_object_keys(case jsonb_typeof(e.job) when 'object' then e.job else '{"": 0}' end) as k (key)
  where k.key not in (
    'id', 'job_type', 'status', 'status_reason', 'agent', 'business', 'payload', 'created_at', 'started_at',
    'completed_at', 'exit_code', 'error', 'failure_kind', 'result', 'parent_job_id', 'delegated_by', 'tags',
    'source_file', 'source_line', 'hostname', 'pid')
  limit 1;
  if found then
    perform persona._invalid('jobs', nullif(v_bad, ''), 'each element is an object with columns of jobs as keys');
  end if;

  for v_item in
    select i.*
    from rows from (jsonb_to_recordset(import_jobs.jobs) as (
      id uuid, job_type text, status text, status_reason text, agent text, business text, payload jsonb,
      created_at timestamptz, started_at timestamptz, completed_at timestamptz, exit_code integer, error text,
      failure_kind text, result jsonb, parent_job_id uuid, delegated_by text, tags text[], source_file text,
      source_line integer, hostname text, pid integer)) with ordinality
      as i (id, job_type, status, status_reason, agent, business, payload, created_at, started_at, completed_at,
        exit_code, error, failure_kind, result, parent_job_id, delegated_by, tags, source_file, source_line, hostname,
        pid, n)
    order by i.n
  loop
    if v_item.id is null or v_item.created_at is null then
      perform persona._invalid('jobs', v_item.n::text, 'each needs id and created_at');
    elsif coalesce(length(v_item.job_type), 0) not between 1 and 100 then
      perform persona._invalid('job_type', v_item.job_type, 'a name of 1 to 100 characters is needed');
    elsif coalesce(length(v_item.agent), 0) not between 1 and 100 then
      perform persona._invalid('agent', v_item.agent, 'a name of 1 to 100 characters is needed');
    elsif coalesce(v_item.status, '') not in ('completed', 'failed', 'cancelled', 'held') then
      perform persona._invalid('status', v_item.status,
        'completed, failed, cancelled or held: what has not ended is held, and release_job lets it run');
    elsif jsonb_typeof(coalesce(v_item.payload, '{}')) <> 'object' then
      perform persona._invalid('payload', left(v_item.payload::text, 200), 'a JSON object is needed');
    end if;
    v_ended := v_item.status <> 'held';
    v_parent := null;
    if v_item.parent_job_id is not null then
      select * into v_parent from persona.jobs as j where j.id = v_item.parent_job_id for key share;
    end if;

    insert into persona.jobs (
      id, short_id, job_type, status, status_reason, agent, business, run_at, payload, parent_job_id, root_job_id,
      depth, delegated_by, tags, source_file, source_line, created_at, started_at, completed_at, attempt, hostname,
      pid, exit_code, error, failure_kind, result, created_by, attention)
    values (
      v_item.id, right(v_item.id::text, 8), v_item.job_type, v_item.status,
      case when not v_ended then coalesce(v_item.status_reason, 'imported') end, v_item.agent,
      nullif(v_item.business, ''), v_item.created_at, coalesce(v_item.payload, '{}'), v_parent.id,
      coalesce(v_parent.root_job_id, v_item.id), coalesce(v_parent.depth + 1, 0), v_item.delegated_by,
      coalesce(v_item.tags, '{}'), v_item.source_file, v_item.source_line, least(v_item.created_at, now()),
      v_item.started_at,
      case when v_ended then coalesce(v_item.completed_at, v_item.started_at, v_item.created_at) end,
      (v_ended and v_item.started_at is not null)::integer, v_item.hostname, v_item.pid, v_item.exit_code,
      case when v_item.status in ('failed', 'cancelled') then v_item.error end,
      case v_item.status when 'failed' then coalesce(v_item.failure_kind, 'unknown') when 'cancelled' then 'cancelled' end,
      v_item.result, persona._caller(), case when v_item.status <> 'completed' then v_item.status end)
    on conflict do nothing;
    return query select v_item.id, case when found then 'imported' else 'exists' end;
  end loop;
  perform persona._announce(null);
end $$;
comment on function persona.import_jobs(jsonb) is
  'Admin API. Stores jobs of another queue with their times and outcomes: status completed, failed or cancelled, or held for what has not ended. Never claimable, wakes nobody, books nothing; an id that exists is left alone. PJ422.';
