-- The commands of rpc: each checks its arguments and calls the function of the same purpose.
create or replace function persona._rpc_call(p_command text, p_body jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_id uuid;
  v_rows jsonb;
  v_item jsonb;
  v_limit integer;
  v_cursor text;
begin
  case p_command
  when 'create' then
    v_item := case jsonb_typeof(p_body) when 'object' then persona._snake_keys(p_body) else p_body end;
    perform persona._rpc_check(p_command, 'create_job', v_item, array[
      'job_type', 'payload', 'agent', 'id', 'priority', 'run_at', 'timeout', 'idle_timeout', 'max_attempts',
      'dedupe_key', 'lock_key', 'parent_job_id', 'depends_on', 'tags', 'source_file', 'source_line',
      'delegated_by', 'business', 'depends_policy', 'limit_key', 'max_cost_usd'], '{job_type}');
    select c.id into v_id
    from persona._job_items(jsonb_build_array(v_item)) as i
    cross join lateral persona.create_job(
      i.job_type, coalesce(i.payload, '{}'), i.agent, i.id, coalesce(i.priority, 0), i.run_at, i.timeout,
      i.idle_timeout, i.max_attempts, i.dedupe_key, i.lock_key, i.parent_job_id, i.depends_on, i.tags,
      i.source_file, i.source_line, i.delegated_by, i.business, coalesce(i.depends_policy, 'succeeded'),
      i.limit_key, i.max_cost_usd) as c;
    return persona._job_json(v_id);

  when 'create_many' then
    v_item := case jsonb_typeof(p_body) when 'array' then jsonb_build_object('jobs', p_body) else p_body end;
    perform persona._rpc_check(p_command, 'create_jobs', v_item, '{jobs}', '{jobs}');
    if jsonb_typeof(v_item -> 'jobs') <> 'array' then
      perform persona._invalid('jobs', left(v_item ->> 'jobs', 100), 'a JSON array of objects is needed');
    end if;
    select coalesce(jsonb_agg(
      case jsonb_typeof(e.job) when 'object' then persona._snake_keys(e.job) else e.job end order by e.n), '[]')
    into v_rows
    from jsonb_array_elements(v_item -> 'jobs') with ordinality as e (job, n);
    select coalesce(jsonb_agg(c.id order by c.n), '[]') into v_rows
    from persona.create_jobs(v_rows) with ordinality as c (id, n);
    return jsonb_build_object('ids', v_rows);

  when 'get' then
    perform persona._rpc_check(p_command, 'get_job', p_body, '{id}', '{id}');
    v_id := persona.resolve_job(p_body ->> 'id');
    select persona._job_json(v_id) || jsonb_build_object('payload', j.payload) into v_item
    from persona.jobs as j where j.id = v_id;
    return v_item;

  when 'list' then
    perform persona._rpc_check(p_command, 'list_jobs', p_body, '{status,agent,type,limit,before}', '{}');
    v_limit := coalesce((p_body ->> 'limit')::integer, 50);
    if v_limit not between 1 and 1000 then
      perform persona._invalid('limit', v_limit::text, '1 to 1000 is allowed');
    end if;
    select coalesce(jsonb_agg(persona._job_json(l.id) order by l.ordinality), '[]') into v_rows
    from persona.list_jobs(
      status => p_body ->> 'status', agent => p_body ->> 'agent', job_type => p_body ->> 'type',
      max_rows => v_limit,
      before => case when p_body ->> 'before' <> '' then persona.resolve_job(p_body ->> 'before') end)
      with ordinality as l;
    return jsonb_build_object('jobs', v_rows);

  when 'logs' then
    perform persona._rpc_check(p_command, 'get_logs', p_body, '{id,afterLease,afterSeq,limit,tail}', '{id}');
    v_limit := coalesce((p_body ->> 'tail')::integer, (p_body ->> 'limit')::integer, 1000);
    if v_limit not between 1 and 10000 then
      perform persona._invalid('limit', v_limit::text, '1 to 10000 is allowed');
    end if;
    if p_body ? 'tail' then
      select coalesce(jsonb_agg(to_jsonb(l) order by l.lease, l.seq), '[]') into v_rows
      from persona.tail_logs(p_body ->> 'id', v_limit) as l;
    else
      select coalesce(jsonb_agg(to_jsonb(l) order by l.lease, l.seq), '[]') into v_rows
      from persona.get_logs(p_body ->> 'id', coalesce((p_body ->> 'afterLease')::bigint, 0),
        coalesce((p_body ->> 'afterSeq')::bigint, 0), v_limit) as l;
    end if;
    -- Where to go on: the last line, or the place given where there is nothing new.
    return jsonb_build_object('lines', v_rows, 'cursor', jsonb_build_object(
      'lease', coalesce(v_rows -> -1 -> 'lease', p_body -> 'afterLease', '0'),
      'seq', coalesce(v_rows -> -1 -> 'seq', p_body -> 'afterSeq', '0')));

  when 'tree' then
    perform persona._rpc_check(p_command, 'get_job_tree', p_body, '{id}', '{id}');
    select coalesce(jsonb_agg(jsonb_build_object(
      'depth', t.depth, 'id', t.job_id, 'parentId', t.parent_job_id, 'shortId', t.short_id, 'type', t.job_type,
      'assignedTo', t.agent, 'status', t.status, 'durationSeconds', t.duration_seconds, 'createdAt', t.created_at,
      'startedAt', t.started_at, 'completedAt', t.completed_at, 'taskPreview', t.task_preview) order by t.ordinality), '[]')
    into v_rows
    from persona.get_job_tree(persona.resolve_job(p_body ->> 'id')) with ordinality as t;
    return jsonb_build_object('jobs', v_rows);

  when 'explain' then
    perform persona._rpc_check(p_command, 'explain_job', p_body, '{id}', '{id}');
    return jsonb_build_object('text', persona.explain_job(p_body ->> 'id'));

  when 'cancel' then
    perform persona._rpc_check(p_command, 'cancel_job', p_body, '{id,reason,force,tree}', '{id}');
    select c.id into v_id from persona.cancel_job(
      p_body ->> 'id', p_body ->> 'reason', coalesce((p_body ->> 'force')::boolean, false),
      coalesce((p_body ->> 'tree')::boolean, true)) as c;
    return persona._job_json(v_id);

  when 'cancel_pending' then
    perform persona._rpc_check(p_command, 'cancel_pending_jobs', p_body, '{reason}', '{}');
    return jsonb_build_object('cancelled', persona.cancel_pending_jobs(p_body ->> 'reason'));

  when 'retry' then
    perform persona._rpc_check(p_command, 'retry_job', p_body, '{id}', '{id}');
    select c.id into v_id from persona.retry_job(p_body ->> 'id') as c;
    return persona._job_json(v_id);

  when 'hold' then
    perform persona._rpc_check(p_command, 'hold_job', p_body, '{id,reason}', '{id}');
    select c.id into v_id from persona.hold_job(p_body ->> 'id', p_body ->> 'reason') as c;
    return persona._job_json(v_id);

  when 'release' then
    perform persona._rpc_check(p_command, 'release_job', p_body, '{id,maxCostUsd}', '{id}');
    select c.id into v_id from persona.release_job(
      p_body ->> 'id', max_cost_usd => (p_body ->> 'maxCostUsd')::numeric) as c;
    return persona._job_json(v_id);

  when 'answer' then
    perform persona._rpc_check(p_command, 'answer_job', p_body, '{id,text}', '{id,text}');
    select c.id into v_id from persona.answer_job(p_body ->> 'id', p_body ->> 'text') as c;
    return persona._job_json(v_id);

  when 'questions' then
    perform persona._rpc_check(p_command, 'get_job', p_body, '{}', '{}');
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', o.job_id, 'shortId', o.short_id, 'kind', o.kind, 'text', o.text, 'askedAt', o.asked_at,
      'assignedTo', o.agent, 'type', o.job_type, 'taskPreview', o.task_preview) order by o.id), '[]')
    into v_rows
    from persona.open_questions as o;
    return jsonb_build_object('questions', v_rows);

  when 'update' then
    perform persona._rpc_check(p_command, 'update_job', p_body, '{id,updatedAt,changes}', '{id,updatedAt,changes}');
    select c.id into v_id from persona.update_job(
      p_body ->> 'id', (p_body ->> 'updatedAt')::timestamptz,
      case jsonb_typeof(p_body -> 'changes') when 'object' then persona._snake_keys(p_body -> 'changes')
        else p_body -> 'changes' end) as c;
    return persona._job_json(v_id);

  when 'summary' then
    perform persona._rpc_check(p_command, 'job_summary', p_body, '{}', '{}');
    return persona.summary_json();

  when 'agents' then
    perform persona._rpc_check(p_command, 'list_agents', p_body, '{}', '{}');
    select coalesce(jsonb_agg(a.one order by a.name), '[]') into v_rows
    from (
      select w.agent as name, (
        select jsonb_object_agg(case c.key when 'agent' then 'name' else persona._camel(c.key) end, c.value)
        from jsonb_each(to_jsonb(w)) as c) as one
      from persona.list_agents() as w) as a;
    return jsonb_build_object('agents', v_rows);

  when 'stats' then
    perform persona._rpc_check(p_command, 'job_summary', p_body, '{}', '{}');
    select coalesce(jsonb_agg(t.one order by t.job_type), '[]') into v_rows
    from (
      select s.job_type, (
        select jsonb_object_agg(case c.key when 'job_type' then 'type' else persona._camel(c.key) end, c.value)
        from jsonb_each(to_jsonb(s)) as c) as one
      from persona.job_statistics as s) as t;
    return jsonb_build_object('types', v_rows);

  when 'events' then
    perform persona._rpc_check(p_command, 'get_events', p_body, '{id,type,limit,after}', '{}');
    v_limit := coalesce((p_body ->> 'limit')::integer, 50);
    if v_limit not between 1 and 1000 then
      perform persona._invalid('limit', v_limit::text, '1 to 1000 is allowed');
    end if;
    if p_body ? 'after' then
      select coalesce(jsonb_agg(jsonb_build_object(
        'at', e.at, 'type', e.event_type, 'jobId', e.job_id, 'source', e.source, 'traceId', e.trace_id,
        'data', e.data, 'eventId', e.event_id, 'cursor', e.next_cursor) order by e.ordinality), '[]')
      into v_rows
      from persona.list_events(p_body ->> 'after', v_limit, p_body ->> 'id', p_body ->> 'type') with ordinality as e;
      return jsonb_build_object('events', v_rows,
        'cursor', coalesce(v_rows -> -1 ->> 'cursor', nullif(p_body ->> 'after', ''), '0'));
    end if;
    v_cursor := persona.event_cursor();
    if coalesce(p_body ->> 'id', '') = '' then
      select coalesce(jsonb_agg(jsonb_build_object(
        'at', e.created_at, 'type', e.event_type, 'jobId', e.job_id, 'source', e.source, 'traceId', e.trace_id,
        'data', e.data, 'eventId', e.id) order by e.id desc), '[]')
      into v_rows
      from persona.get_events(null, p_body ->> 'type', v_limit) as e;
    else
      v_id := persona.resolve_job(p_body ->> 'id');
      select coalesce(jsonb_agg(jsonb_build_object(
        'at', e.at, 'type', e.event_type, 'jobId', e.job_id, 'source', e.source, 'traceId', e.trace_id,
        'data', e.data, 'eventId', e.event_id) order by e.at desc, e.event_id desc), '[]')
      into v_rows
      from (
        select o.* from persona.job_events as o
        where o.job_id = v_id and (p_body ->> 'type' is null or o.event_type = p_body ->> 'type')
        order by o.at desc, o.event_id desc limit v_limit) as e;
    end if;
    return jsonb_build_object('events', v_rows, 'cursor', v_cursor);

  when 'version' then
    perform persona._rpc_check(p_command, 'schema_version', p_body, '{}', '{}');
    return jsonb_build_object('tool', 'persona', 'contract', 1, 'schema', persona.schema_version(),
      'capabilities', jsonb_build_array('create', 'create_many', 'get', 'list', 'logs', 'tree', 'explain', 'cancel',
        'cancel_pending', 'retry', 'hold', 'release', 'answer', 'questions', 'update', 'summary', 'agents', 'stats', 'events', 'version'));
  else
    perform persona._invalid('command', p_command,
      'one of create, create_many, get, list, logs, tree, explain, cancel, cancel_pending, retry, hold, release, answer, questions, update, summary, agents, stats, events, version');
  end case;
  return null;
end $$;
comment on function persona._rpc_call(text, jsonb) is 'Internal. Executes one command of rpc and returns its data.';
