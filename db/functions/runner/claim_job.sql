-- plpgsql, because it keeps its plan: as an SQL function it was planned at each call.
create or replace function persona.claim_job(runner_id uuid) returns setof persona.claimed_job
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return query select c.* from persona.claim_jobs(claim_job.runner_id, 1) as c;
end $$;
comment on function persona.claim_job(uuid) is 'Runner API. claim_jobs for one job: one row, or none.';
