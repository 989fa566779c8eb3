-- The commands of the first system's bridge. Optional arguments may be missing, empty or "-".
create or replace function persona._bridge_call(p_command text, p_args text[]) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_args text[] := array(
    select nullif(nullif(btrim(a.value), ''), '-') from unnest(p_args) with ordinality as a (value, n) order by a.n);
  v_needed text := case p_command
    when 'create_job' then 'job'
    when 'get_job_status' then 'id'
    when 'get_job_logs' then 'id'
    when 'get_local_logs' then 'business, agent, date'
    when 'log_job_event' then 'id, level, message'
    when 'log_batch' then 'id, messages'
    when 'update_job_status' then 'id, status'
    when 'heartbeat' then 'id'
    when 'publish_event' then 'type, id'
    when 'delete_event' then 'msg_id'
  end;
  v_data jsonb;
  v_rows jsonb;
  v_id uuid;
  v_done boolean;
begin
  if coalesce(cardinality(p_args), 0) < cardinality(string_to_array(v_needed, ',')) then
    perform persona._raise('PJ422', format('%s needs: %s', p_command, v_needed), null, null);
  end if;
  case p_command
  when 'create_job' then
    return persona._bridge_create_job(persona._bridge_json('job', p_args[1]));

  when 'get_job_status' then
    return persona._bridge_job(persona.resolve_job(v_args[1]),
      '{id,shortId,type,status,assignedTo,createdAt,startedAt,completedAt,error,result,pid}');

  when 'get_pending_jobs' then
    return persona._bridge_pending(v_args[1]);

  when 'get_running_jobs' then
    select coalesce(jsonb_agg(persona._bridge_job(l.job_id, '{id,shortId,type,status,assignedTo,pid,startedAt,payload}')
      order by l.claimed_at, l.job_id), '[]')
    into v_rows
    from persona.job_leases as l where v_args[1] is null or l.agent = v_args[1];
    return jsonb_build_object('jobs', v_rows);

  when 'get_completed_jobs' then
    return persona._bridge_ended('{completed,failed}', persona._bridge_number('limit', v_args[1], 20, 1000));

  when 'get_failed_jobs' then
    return persona._bridge_ended('{failed}', persona._bridge_number('limit', v_args[1], 20, 1000));

  when 'get_hung_jobs' then
    select coalesce(jsonb_agg(persona._bridge_job(h.id, '{id,shortId,type,status,assignedTo,pid,createdAt,startedAt}')
      order by h.heartbeat_at), '[]')
    into v_rows
    from persona.detect_hung_jobs(make_interval(mins => persona._bridge_number('minutes', v_args[1], 5, 1000000))) as h;
    return jsonb_build_object('jobs', v_rows);

  when 'get_job_logs' then
    begin
      v_id := persona.resolve_job(v_args[1]);
    exception when sqlstate 'PJ404' then
      return jsonb_build_object('logs', '[]'::jsonb);
    end;
    select coalesce(jsonb_agg(jsonb_build_object('timestamp', l.at, 'level', l.level, 'message', l.message,
      'metadata', coalesce(l.metadata, '{}')) order by l.n), '[]')
    into v_rows
    from persona._last_logs(v_id, persona._bridge_number('limit', v_args[2], 50, 10000))
      with ordinality as l (at, level, message, metadata, n);
    return jsonb_build_object('logs', v_rows);

  when 'get_local_logs' then
    return persona._bridge_local_logs(v_args[1], v_args[2], v_args[3], v_args[4]);

  when 'log_job_event' then
    perform persona._say_outside(persona.resolve_job(v_args[1]), v_args[2], p_args[3:3],
      persona._bridge_json('metadata', p_args[4]));
    return jsonb_build_object('success', true);

  when 'log_batch' then
    v_data := persona._bridge_json('messages', p_args[2]);
    if jsonb_typeof(v_data) is distinct from 'array' then
      perform persona._invalid('messages', left(p_args[2], 100), 'a JSON array of strings is needed');
    end if;
    return jsonb_build_object('success', true, 'count', persona._say_outside(
      persona.resolve_job(v_args[1]), coalesce(v_args[3], 'info'),
      array(select m.line from jsonb_array_elements_text(v_data) with ordinality as m (line, n) order by m.n), null));

  when 'get_job_summary' then
    select jsonb_build_object('pending', s.pending + s.blocked + s.held, 'running', s.running - s.hung,
      'completed', s.completed, 'failed', s.failed, 'cancelled', s.cancelled, 'hung', s.hung)
    into v_data
    from persona.job_summary() as s;
    return v_data;

  when 'update_job_status' then
    v_data := persona._bridge_json('status', p_args[2]);
    if jsonb_typeof(v_data) is distinct from 'object' then
      perform persona._invalid('status', left(p_args[2], 100), 'a JSON object {"status": ..., "error": ...} is needed');
    end if;
    return persona._drive_job(v_args[1], v_data ->> 'status', jsonb_build_object(
      'error', v_data ->> 'error', 'result', v_data -> 'result', 'pid', v_data -> 'pid',
      'exit_code', coalesce(v_data -> 'exitCode', v_data -> 'exit_code')));

  when 'heartbeat' then
    v_id := persona.resolve_job(v_args[1]);
    v_done := persona._beat_external(v_id, '{}');
    return jsonb_build_object('success', v_done) || case when v_done then '{}' else jsonb_build_object('reason', (
      select case when j.status = 'running' then 'a runner has it' else 'it is ' || j.status end
      from persona.jobs as j where j.id = v_id)) end;

  when 'cancel_pending_jobs' then
    return jsonb_build_object(
      'cancelled', persona.cancel_pending_jobs(coalesce(v_args[1], 'Batch cancelled - stuck in pending')),
      'reason', coalesce(v_args[1], 'Batch cancelled - stuck in pending'));

  when 'get_agent_daily_performance' then
    return persona._bridge_performance(v_args[1], persona._bridge_number('days', v_args[2], 7, 3650));

  when 'publish_event' then
    select jsonb_build_object('success', true, 'event_type', v_args[1], 'job_id', v_args[2], 'source', coalesce(v_args[4], 'bridge'),
      'trace_id', coalesce(v_args[5], ''), 'msg_id', p.id)
      || case when p.note is null then '{}' else jsonb_build_object('note', p.note) end
    into v_data
    from persona.publish_event(v_args[1], v_args[2], coalesce(persona._bridge_json('data', p_args[3]), '{}'),
      coalesce(v_args[4], 'bridge'), v_args[5]) as p;
    return v_data;

  when 'read_events' then
    select coalesce(jsonb_agg(jsonb_build_object('msg_id', e.id, 'read_ct', e.read_count, 'enqueued_at', e.created_at,
      'vt', e.visible_at, 'message', jsonb_build_object('type', e.event_type, 'job_id', e.job_id,
        'timestamp', e.created_at, 'source', e.source, 'trace_id', e.trace_id, 'data', e.data)) order by e.id), '[]')
    into v_rows
    from persona.read_events(persona._bridge_number('qty', v_args[1], 10, 1000),
      persona._bridge_number('visibility', v_args[2], 30, 86400)) as e;
    return jsonb_build_object('success', true, 'events', v_rows, 'count', jsonb_array_length(v_rows));

  when 'delete_event' then
    if v_args[1] is null or v_args[1] !~ '^\d{1,18}$' then
      perform persona._invalid('msg_id', v_args[1], 'the msg_id of an event that was read is needed');
    end if;
    return jsonb_build_object('success', true, 'deleted', persona.delete_event(v_args[1]::bigint));

  when 'get_events' then
    select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'type', e.event_type, 'job_id', e.job_id,
      'timestamp', e.created_at, 'source', e.source, 'trace_id', e.trace_id, 'data', e.data) order by e.id desc), '[]')
    into v_rows
    from persona.get_events(v_args[1], v_args[2], persona._bridge_number('limit', v_args[3], 50, 1000)) as e;
    return jsonb_build_object('success', true, 'events', v_rows, 'count', jsonb_array_length(v_rows));
  else
    perform persona._raise('PJ422', format('Unknown command: %s', left(coalesce(p_command, ''), 100)), null, null);
  end case;
  return null;
end $$;
comment on function persona._bridge_call(text, text[]) is 'Internal. Executes one command of the bridge.';
