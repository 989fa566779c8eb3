create or replace function persona.complete_jobs(runner_id uuid, items jsonb)
returns table (job_id uuid, lease bigint, status text, result_status text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if exists (select from persona.runner_restrictions) then
    perform persona._own_runner(complete_jobs.runner_id);
  end if;
  if complete_jobs.items is null or jsonb_typeof(complete_jobs.items) <> 'array' then
    perform persona._invalid('items', left(complete_jobs.items::text, 100), 'a JSON array of objects is needed');
  end if;
  return query
    select s.job_id, s.lease, s.status, s.result_status
    from persona._settle(complete_jobs.runner_id, complete_jobs.items) as s;
end $$;
comment on function persona.complete_jobs(uuid, jsonb) is
  'Runner API. Reports how executions ended: [{job_id, lease, outcome, exit_code, error, failure_kind, result, cost_usd, tokens, session_id, model, pid, retry_at, retry_in, is_cumulative_cost, argv}], outcome one of completed, failed, timeout, idle_timeout, cancelled, held, rate_limited, given_back, orphaned. Returns for each ok, repeated (the same report again), lost (kept as stale_result) or invalid, and the job''s status now. Never raises for an item.';
