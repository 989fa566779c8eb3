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
      select case q.waits_on when 'lock' then 'lock key ' || q.lock_key when 'external' then 'its driver'
        when 'limit' then case
          when q.parked_for like 'budget:@%' then 'its max cost'
          when q.parked_for like 'budget:%' then 'budget ' || split_part(q.parked_for, ':', 2)
          else 'limit ' || q.parked_for end end
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
comment on column persona.job_dashboard.id is 'Time-ordered UUID (version 7), made by the caller or here.';
comment on column persona.job_dashboard.short_id is 'Last 8 characters of the id, for people; programs use the whole id.';
comment on column persona.job_dashboard.job_type is 'What kind of work; see job_types.';
comment on column persona.job_dashboard.status is 'blocked, pending, running, held, completed, failed or cancelled. Hung is no status: see job_dashboard.hung.';
comment on column persona.job_dashboard.agent is 'Agent that runs it; see agents.';
comment on column persona.job_dashboard.hostname is 'Host of the latest execution.';
comment on column persona.job_dashboard.pid is 'Process id of the latest execution, known once it ended; of a running one see job_leases.';
comment on column persona.job_dashboard.progress is 'Percent, as last reported by the job.';
comment on column persona.job_dashboard.priority is 'Higher goes first.';
comment on column persona.job_dashboard.attempt is 'Counted attempts so far, the running one included; interruptions do not count.';
comment on column persona.job_dashboard.max_attempts is 'Counted attempts at most.';
comment on column persona.job_dashboard.created_at is 'Server time of creation.';
comment on column persona.job_dashboard.started_at is 'Start of the latest execution.';
comment on column persona.job_dashboard.completed_at is 'When it reached completed, failed or cancelled.';
comment on column persona.job_dashboard.run_at is 'Not before this time; moved forward by backoff and rate limits.';
comment on column persona.job_dashboard.error is 'What went wrong last, for people; null once completed.';
comment on column persona.job_dashboard.exit_code is 'Exit code of the last attempt; 128 + N after signal N.';
comment on column persona.job_dashboard.status_reason is 'Why it is in this status, for people.';
comment on column persona.job_dashboard.runner_name is 'Name of the runner of the latest execution.';
comment on column persona.job_dashboard.cpu_percent is 'CPU of its process tree at the last heartbeat, 100 = one core.';
comment on column persona.job_dashboard.memory_mb is 'Resident memory of its process tree at the last heartbeat, MiB.';
comment on column persona.job_dashboard.heartbeat_at is 'Server time of the last heartbeat.';
comment on column persona.job_dashboard.business is 'Instance (tenant) it belongs to.';
comment on column persona.job_dashboard.tags is 'Free labels.';
comment on column persona.job_dashboard.source_file is 'Note or file it came from.';
comment on column persona.job_dashboard.cost_usd is 'Cost of all attempts in US dollars as reported by the program.';
comment on column persona.job_dashboard.failure_kind is 'What went wrong last, for programs: timeout, idle_timeout, crashed, not_found, rate_limited, auth, ...';
comment on column persona.job_dashboard.progress_text is 'Words that came with it.';
comment on column persona.job_dashboard.parent_job_id is 'Job that created this one by delegation.';
comment on column persona.job_dashboard.updated_at is 'Grows strictly with every change of the row; compared by update_job.';
