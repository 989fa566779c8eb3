create or replace function persona.give_back_job(runner_id uuid, job_id uuid, lease bigint, reason text default null)
returns persona.jobs
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select persona.complete_job(
    give_back_job.runner_id, give_back_job.job_id, give_back_job.lease,
    error => coalesce(give_back_job.reason, 'runner drained'), outcome => 'given_back');
$$;
comment on function persona.give_back_job(uuid, uuid, bigint, text) is
  'Runner API. Makes a job pending again without costing an attempt. PJ410 where the lease is lost.';
