create or replace function persona.claim_job(runner_id uuid) returns setof persona.claimed_job
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select c.* from persona.claim_jobs(claim_job.runner_id, 1) as c;
$$;
comment on function persona.claim_job(uuid) is 'Runner API. claim_jobs for one job: one row, or none.';
