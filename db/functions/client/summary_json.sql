-- What rpc answers to summary, by itself: bin/persona-rpc asks for this in a fresh connection, where reading the code
-- of all commands of rpc would take twice as long as the answer.
create or replace function persona.summary_json() returns jsonb
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp
begin atomic
  select jsonb_build_object(
    'pending', s.pending, 'running', s.running, 'completed', s.completed, 'failed', s.failed,
    'cancelled', s.cancelled, 'blocked', s.blocked, 'held', s.held, 'hung', s.hung,
    'oldestPendingSeconds', s.oldest_pending_seconds, 'costToday', s.cost_today, 'unseenAlerts', s.unseen_alerts)
  from persona.job_summary() as s;
end;
comment on function persona.summary_json() is 'Viewer API. job_summary as rpc and bin/persona-rpc answer it.';
