create or replace function persona.complete_job(
  runner_id uuid, job_id uuid, lease bigint, exit_code integer default null, result jsonb default null,
  error text default null, outcome text default null, failure_kind text default null,
  cost_usd numeric default null, tokens jsonb default null, session_id text default null,
  model text default null, retry_at timestamptz default null
) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_outcome text := coalesce(complete_job.outcome,
    case when complete_job.error is null and coalesce(complete_job.exit_code, 0) = 0 then 'completed' else 'failed' end);
  v_status text;
  v_job persona.jobs;
begin
  if exists (select from persona.runner_restrictions) then
    perform persona._own_runner(complete_job.runner_id);
  end if;
  select s.status into v_status
  from persona._settle(complete_job.runner_id, jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'job_id', complete_job.job_id, 'lease', complete_job.lease, 'outcome', v_outcome,
    'exit_code', complete_job.exit_code, 'error', complete_job.error, 'failure_kind', complete_job.failure_kind,
    'cost_usd', complete_job.cost_usd, 'session_id', complete_job.session_id,
    'model', complete_job.model, 'retry_at', complete_job.retry_at))
    || jsonb_build_object('result', complete_job.result, 'tokens', complete_job.tokens))) as s;
  if v_status = 'invalid' then
    perform persona._invalid('outcome', v_outcome,
      'one of ' || array_to_string(persona._outcomes(), ', '));
  elsif v_status = 'lost' then
    perform persona._lease_lost(complete_job.runner_id, complete_job.job_id, complete_job.lease);
  end if;
  select * into v_job from persona.jobs as j where j.id = complete_job.job_id;
  return v_job;
end $$;
comment on function persona.complete_job(
  uuid, uuid, bigint, integer, jsonb, text, text, text, numeric, jsonb, text, text, timestamptz) is
  'Runner API. complete_jobs for one execution; without outcome, exit code 0 and no error mean completed. The same report again succeeds and changes nothing. PJ410 where the lease is lost, PJ422.';
