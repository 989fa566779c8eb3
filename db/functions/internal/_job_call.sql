-- The commands of job_call.
create or replace function persona._job_call(
  p_runner_id uuid, p_job_id uuid, p_lease bigint, p_command text, p_body jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs;
  v_child persona.jobs;
  v_type text;
  v_key text;
  v_id uuid;
  v_ids uuid[];
  v_rows jsonb;
begin
  perform persona._own_runner(p_runner_id);
  select j.* into v_job
  from persona.job_leases as l
  join persona.jobs as j on j.id = l.job_id
  where l.job_id = p_job_id and l.lease = p_lease and l.runner_id = p_runner_id;
  if not found then
    perform persona._lease_lost(p_runner_id, p_job_id, p_lease);
  end if;

  case p_command
  when 'delegate' then
    v_type := coalesce(nullif(p_body ->> 'type', ''), 'delegate');
    -- A plain text goes where the type looks for its prompt.
    v_key := coalesce((
      select case when cardinality(t.requires_one_of) = 0 or 'prompt' = any(t.requires_one_of) then 'prompt'
        else t.requires_one_of[1] end
      from persona.job_types as t where t.name = v_type), 'prompt');
    v_child := persona.create_child_job(
      p_runner_id, p_job_id, p_lease, v_type,
      case when p_body ? 'text' then jsonb_build_object(v_key, p_body ->> 'text') else '{}' end
        || coalesce(p_body -> 'payload', '{}'),
      p_body ->> 'agent',
      -- The same key again, in this attempt or a later one, is the same job. The id is of the time of its parent.
      case when p_body ->> 'key' <> '' then (
          select concat(left(p_job_id::text, 14), '7', left(k.hash, 3), '-8', substr(k.hash, 4, 3), '-', right(k.hash, 12))
          from (select md5(p_job_id || ':' || (p_body ->> 'key')) as hash) as k)::uuid
        else (p_body ->> 'id')::uuid end,
      null, (p_body ->> 'priority')::integer,
      array(select t.tag from jsonb_array_elements_text(p_body -> 'tags') as t (tag)),
      (p_body ->> 'timeout')::interval, (p_body ->> 'maxAttempts')::integer, p_body ->> 'lockKey',
      replace(p_body ->> 'onFailure', '-', '_'));
    return persona._child_json(v_child);

  when 'children' then
    select coalesce(jsonb_agg(persona._child_json(j) order by j.seq), '[]') into v_rows
    from persona.jobs as j where j.parent_job_id = p_job_id;
    return jsonb_build_object('jobs', v_rows);

  when 'get' then
    v_id := case when coalesce(p_body ->> 'id', '') = '' then p_job_id else persona.resolve_job(p_body ->> 'id') end;
    if not exists (select from persona.get_job_tree(p_job_id) as t where t.job_id = v_id) then
      perform persona._raise('PJ403', format('job %s may look only at itself and at what it delegated', v_job.short_id),
        jsonb_build_object('id', v_job.id), null);
    end if;
    return persona._job_json(v_id)
      || jsonb_build_object('payload', (select j.payload from persona.jobs as j where j.id = v_id));

  when 'ask' then
    if coalesce(btrim(p_body ->> 'text'), '') = '' or length(p_body ->> 'text') > 20000 then
      perform persona._invalid('text', left(p_body ->> 'text', 100), 'a question of 1 to 20000 characters is needed');
    end if;
    -- Without a conversation the program has started anew and comes to the same question again.
    if not (v_job.session_id is not null and exists (
      select from persona.agents as a where a.name = v_job.agent and a.keeps_conversation))
    then
      select to_jsonb(q.answer) into v_rows from persona.questions as q
      where q.job_id = p_job_id and q.kind = 'question' and q.text = p_body ->> 'text' and q.answered_at is not null
      order by q.id desc limit 1;
      if found then
        return jsonb_build_object('answer', v_rows);
      end if;
    end if;
    insert into persona.questions (job_id, kind, lease, text) values (p_job_id, 'question', p_lease, p_body ->> 'text')
    on conflict do nothing;
    perform persona._stop_job(p_job_id, left('question: ' || (p_body ->> 'text'), 500), false, 'held');
    return jsonb_build_object('asked', true);

  when 'wait' then
    if jsonb_typeof(p_body -> 'ids') = 'array' and jsonb_array_length(p_body -> 'ids') > 0 then
      v_ids := array(
        select distinct persona.resolve_job(i.ref) from jsonb_array_elements_text(p_body -> 'ids') as i (ref));
      if exists (
        select from persona.jobs as j where j.id = any(v_ids) and j.parent_job_id is distinct from p_job_id)
      then
        perform persona._raise('PJ403', format('job %s may wait only for what it delegated itself', v_job.short_id),
          jsonb_build_object('id', v_job.id), null);
      end if;
    else
      v_ids := array(select j.id from persona.jobs as j where j.parent_job_id = p_job_id);
    end if;
    -- See _jobs_child_ended: the lease first, then this lock, and then a look of its own.
    perform from persona.job_leases as l where l.job_id = p_job_id for no key update;
    perform pg_advisory_xact_lock(hashtext('persona.children'), hashtext(p_job_id::text));
    if exists (
      select from persona.jobs as j
      where j.id = any(v_ids) and j.status in ('blocked', 'pending', 'running', 'held'))
    then
      perform persona._lend_slot(p_job_id);
      return jsonb_build_object('done', false, 'ids', to_jsonb(v_ids));
    end if;
    select coalesce(jsonb_agg(persona._child_json(j) order by j.seq), '[]') into v_rows
    from persona.jobs as j where j.id = any(v_ids);
    return jsonb_build_object('done', true, 'jobs', v_rows);

  when 'regain' then
    return to_jsonb(persona._regain_slot(p_job_id));

  when 'resume' then
    return persona._resumption(v_job);

  else
    perform persona._invalid('command', p_command, 'one of delegate, children, get, ask, wait, regain, resume');
  end case;
  return null;
end $$;
comment on function persona._job_call(uuid, uuid, bigint, text, jsonb) is
  'Internal. Executes one command of job_call and returns its data. PJ410, PJ403, PJ422.';
