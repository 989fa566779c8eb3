-- Every job with what a person wants to see of it.
create or replace view persona.job_dashboard as
select j.id, j.short_id, j.job_type, j.status,
  j.status = 'running' and l.expires_at < now() as hung,
  j.agent, j.hostname, coalesce(l.pid, j.pid) as pid,
  round(extract(epoch from coalesce(j.completed_at, case when j.status = 'running' then now() end) - j.started_at), 1)
    as duration_seconds,
  coalesce(l.progress, j.progress) as progress,
  persona._task_preview(j.payload) as task_preview,
  case
    when j.status = 'blocked' then 'other jobs'
    when j.status = 'held' then coalesce(j.status_reason, 'release')
    when j.status = 'pending' and j.run_at > now() then 'until ' || j.run_at
    when j.status = 'pending' then (
      select case q.waits_on when 'lock' then 'lock key ' || q.lock_key when 'external' then 'its driver' end
      from persona.job_queue as q where q.seq = j.seq)
  end as waiting_for,
  j.priority, j.attempt, j.max_attempts, j.created_at, j.started_at, j.completed_at, j.run_at, j.error, j.exit_code,
  j.status_reason,
  (select r.name from persona.runners as r where r.id = j.runner_id) as runner_name,
  l.cpu_percent, l.memory_mb, l.heartbeat_at, l.expires_at as lease_expires_at,
  j.business, j.tags, j.source_file, j.cost_usd, j.failure_kind, coalesce(l.progress_text, j.progress_text) as progress_text,
  j.parent_job_id, j.updated_at
from persona.jobs as j
left join persona.job_leases as l on l.job_id = j.id and j.status = 'running';
comment on view persona.job_dashboard is 'Every job with its live state: the first place to look.';
comment on column persona.job_dashboard.hung is 'Running, but its lease has run out.';
comment on column persona.job_dashboard.duration_seconds is 'Run time of the latest execution, so far or in all.';
comment on column persona.job_dashboard.task_preview is 'The task in up to 80 characters.';
comment on column persona.job_dashboard.waiting_for is 'What a job that does not run waits for, roughly; explain_job says more.';
comment on column persona.job_dashboard.lease_expires_at is 'End of the lease of a running job.';
