-- The one place where a job becomes JSON for programs. Times carry their zone and all their digits, so that
-- updatedAt can be sent back to update.
create or replace function persona._job_json(p_id uuid) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_build_object(
    'id', j.id, 'shortId', j.short_id, 'type', j.job_type, 'status', j.status, 'statusReason', j.status_reason,
    'hung', d.hung, 'assignedTo', j.agent, 'priority', j.priority, 'createdAt', j.created_at,
    'startedAt', j.started_at, 'completedAt', j.completed_at, 'runAt', j.run_at, 'updatedAt', j.updated_at,
    'attempt', j.attempt, 'maxAttempts', j.max_attempts, 'exitCode', j.exit_code, 'error', j.error,
    'failureKind', j.failure_kind, 'result', j.result, 'progress', d.progress, 'progressText', d.progress_text,
    'pid', d.pid, 'hostname', j.hostname, 'runner', d.runner_name, 'parentId', j.parent_job_id,
    'costUsd', j.cost_usd, 'maxCostUsd', j.max_cost_usd, 'tokens', j.tokens, 'sessionId', j.session_id, 'model', j.model,
    'waitingFor', d.waiting_for, 'taskPreview', d.task_preview, 'business', j.business, 'tags', to_jsonb(j.tags),
    'sourceFile', j.source_file, 'sourceLine', j.source_line, 'external', j.is_external)
  from persona.jobs as j
  join persona.job_dashboard as d on d.id = j.id
  where j.id = p_id;
$$;
comment on function persona._job_json(uuid) is 'Internal. A job as the JSON object of the wrappers.';
