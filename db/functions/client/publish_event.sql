-- Stores an event, and lets it move the job it is about: job.started, completed, failed, timeout and cancelled start
-- and end what is driven from outside, job.heartbeat and job.progress renew its lease. Where the job may not be
-- moved (a runner has it, it has ended) the event is kept all the same, and note says why nothing moved.
create or replace function persona.publish_event(
  event_type text, ref text default null, data jsonb default '{}', source text default null,
  trace_id text default null
) returns table (id bigint, job_id uuid, applied boolean, note text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_data jsonb := coalesce(publish_event.data, '{}');
  v_job_id uuid;
  v_status text;
  v_timeout boolean;
  v_answer jsonb;
  v_applied boolean := false;
  v_note text;
  v_id bigint;
begin
  if coalesce(publish_event.event_type, '') !~ '^[A-Za-z][A-Za-z0-9_.:-]{0,99}$' then
    perform persona._invalid('event_type', publish_event.event_type, 'a name such as job.progress is needed');
  elsif jsonb_typeof(v_data) <> 'object' then
    perform persona._invalid('data', left(v_data::text, 100), 'a JSON object is needed');
  end if;
  if coalesce(publish_event.ref, '') <> '' then
    v_job_id := persona.resolve_job(publish_event.ref);
  elsif publish_event.event_type in ('job.started', 'job.completed', 'job.failed', 'job.timeout', 'job.cancelled',
    'job.heartbeat', 'job.progress')
  then
    perform persona._invalid('ref', null, format('%s is about a job', publish_event.event_type));
  end if;

  v_timeout := publish_event.event_type = 'job.timeout' or v_data -> 'timeout' = 'true';
  v_status := case publish_event.event_type
    when 'job.started' then 'running'
    when 'job.completed' then case
      when v_timeout or nullif(v_data ->> 'error', '') is not null or coalesce(v_data ->> 'exit_code', '0') <> '0'
      then 'failed' else 'completed' end
    when 'job.failed' then 'failed'
    when 'job.timeout' then 'failed'
    when 'job.cancelled' then 'cancelled'
  end;
  if v_status is not null then
    begin
      v_answer := persona._drive_job(v_job_id::text, v_status, jsonb_build_object(
        'error', coalesce(v_data ->> 'error', v_data ->> 'reason', case when v_timeout then 'timed out' end),
        'result', v_data -> 'result',
        'exit_code', case when v_data ->> 'exit_code' ~ '^-?\d{1,9}$' then (v_data ->> 'exit_code')::integer end,
        'pid', case when v_data ->> 'pid' ~ '^\d{1,9}$' then (v_data ->> 'pid')::integer end,
        'outcome', case when v_timeout then 'timeout' end));
      v_applied := (v_answer ->> 'success')::boolean;
      v_note := v_answer ->> 'error';
    exception when sqlstate 'PJ423' then
      v_note := sqlerrm;
    end;
  elsif publish_event.event_type in ('job.heartbeat', 'job.progress') then
    v_applied := persona._beat_external(v_job_id, v_data);
    v_note := case when not v_applied then 'no program outside holds the job' end;
  end if;

  insert into persona.events (event_type, job_id, source, trace_id, data)
  values (publish_event.event_type, v_job_id, publish_event.source, publish_event.trace_id, v_data)
  returning events.id into v_id;
  return query
    select v_id, v_job_id, v_applied, v_note;
end $$;
comment on function persona.publish_event(text, text, jsonb, text, text) is
  'Client API. Publishes an event about a job (by id or short id) or about nothing; job.started, completed, failed, timeout, cancelled, heartbeat and progress also move a job that is driven from outside; exit_code, timeout and error in data set the outcome. note: why nothing moved. PJ404, PJ422.';
