create or replace function persona._child_json(p_job persona.jobs) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_build_object(
    'id', p_job.id, 'shortId', p_job.short_id, 'type', p_job.job_type, 'assignedTo', p_job.agent,
    'status', p_job.status, 'statusReason', p_job.status_reason, 'exitCode', p_job.exit_code, 'error', p_job.error,
    'failureKind', p_job.failure_kind, 'result', p_job.result, 'costUsd', p_job.cost_usd,
    'durationSeconds', round(extract(epoch from coalesce(p_job.completed_at, now()) - p_job.started_at), 1),
    'createdAt', p_job.created_at, 'taskPreview', persona._task_preview(p_job.payload));
$$;
comment on function persona._child_json(persona.jobs) is 'Internal. A delegated job as the job that delegated it sees it.';
