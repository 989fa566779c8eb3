-- create_job of the bridge. Its client repeats a call without an id, so an identical create within 15 s of a live
-- job returns that job: look and insert happen under a lock on the job's description.
-- An external job goes around create_job: nothing of ours runs it, so its agent need not be registered here and its
-- payload need not fit a prompt; it has one attempt, because whoever drives it decides about another one.
create or replace function persona._bridge_create_job(p_data jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_type text := p_data ->> 'type';
  v_payload jsonb := case when jsonb_typeof(p_data -> 'payload') <> 'null' then p_data -> 'payload' end;
  v_file text := nullif(p_data ->> 'sourceFile', '');
  v_line integer;
  v_tags text[] := array[]::text[];
  v_agent text;
  v_known persona.agents;
  v_external boolean;
  v_meeting jsonb;
  v_id uuid;
begin
  if jsonb_typeof(p_data) is distinct from 'object' then
    perform persona._invalid('job', left(p_data::text, 100), 'a JSON object is needed');
  elsif coalesce(v_type, '') = '' or length(v_type) > 100 then
    perform persona._invalid('type', v_type, 'a name of 1 to 100 characters is needed');
  end if;
  v_payload := coalesce(v_payload, '{}');
  if jsonb_typeof(v_payload) <> 'object' then
    perform persona._invalid('payload', left(v_payload::text, 100), 'a JSON object is needed');
  end if;
  perform persona._check_payload(v_payload);
  if p_data ->> 'sourceLine' <> '' then
    v_line := persona._bridge_number('sourceLine', p_data ->> 'sourceLine', null, 999999999);
  end if;
  if jsonb_typeof(p_data -> 'tags') = 'array' then
    v_tags := array(select t.tag from jsonb_array_elements_text(p_data -> 'tags') with ordinality as t (tag, n)
      where t.tag is not null order by t.n);
  end if;
  -- {"meeting": ...} is what the client sends; what the meeting prompt reads is a title and a text.
  v_meeting := v_payload -> 'meeting';
  if v_type = 'meeting_extract' and v_meeting is not null and not v_payload ?| array['title', 'text', 'prompt'] then
    v_payload := v_payload || jsonb_build_object(
      'title', coalesce(v_meeting ->> 'title', ''),
      'text', case jsonb_typeof(v_meeting) when 'string' then v_meeting #>> '{}' else jsonb_pretty(v_meeting) end);
  end if;

  v_agent := coalesce(nullif(p_data ->> 'agent', ''),
    (select t.default_agent from persona.job_types as t where t.name = v_type), persona._setting('default_agent'));
  select * into v_known from persona.agents as a where a.name = v_agent;
  v_external := coalesce(v_known.is_external, false)
    or (v_type = 'agent_action' and persona._setting('bridge_agent_action') is distinct from 'runner');

  perform pg_advisory_xact_lock(hashtext('persona.bridge_create'),
    hashtext(jsonb_build_array(v_type, v_agent, v_payload, v_file, v_line)::text));
  select j.id into v_id from persona.jobs as j
  where j.id >= persona._id_floor(now() - interval '15 seconds') and j.created_at > now() - interval '15 seconds'
    and j.status in ('blocked', 'pending', 'running', 'held')
    and j.job_type = v_type and j.agent = v_agent and j.payload = v_payload and j.tags = v_tags
    and j.source_file is not distinct from v_file and j.source_line is not distinct from v_line
    and j.created_by = persona._caller()
  order by j.id desc limit 1;
  if v_id is null and v_external then
    if coalesce(v_agent, '') = '' or length(v_agent) > 100 then
      perform persona._invalid('agent', v_agent, 'a name of 1 to 100 characters is needed');
    elsif v_known.admin_only and not persona._is_admin() then
      perform persona._raise('PJ403', format('only an admin may create jobs for agent %s', v_agent),
        jsonb_build_object('agent', v_agent, 'role', persona._caller()), null);
    end if;
    v_id := persona._new_id();
    insert into persona.jobs (
      id, short_id, job_type, agent, payload, max_attempts, root_job_id, tags, source_file, source_line, created_by,
      is_external)
    values (
      v_id, right(v_id::text, 8), v_type, v_agent, v_payload, 1, v_id, v_tags, v_file, v_line, persona._caller(),
      true);
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, waits_on)
    select j.seq, j.id, j.agent, j.priority, j.run_at, 'external' from persona.jobs as j where j.id = v_id;
    perform persona._announce(null);
  elsif v_id is null then
    select c.id into v_id from persona.create_job(
      job_type => v_type, payload => v_payload, agent => v_agent, tags => v_tags, source_file => v_file,
      source_line => v_line) as c;
  end if;
  return persona._bridge_job(v_id, '{id,shortId,type,status,assignedTo}');
end $$;
comment on function persona._bridge_create_job(jsonb) is 'Internal. create_job of the bridge. PJ422, PJ403.';
