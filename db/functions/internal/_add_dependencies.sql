-- Writes what a new, blocked job waits for, and decides at once where the needed jobs have ended already.
-- FOR SHARE holds up their completion until we have committed, so that it sees what we wrote.
create or replace function persona._add_dependencies(p_job_id uuid, p_needs uuid[], p_policy text) returns persona.jobs
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_missing uuid;
  v_job persona.jobs;
begin
  perform from persona.jobs as j where j.id = any(p_needs) order by j.id for share;
  select n.id into v_missing
  from unnest(p_needs) as n (id)
  where n.id is null or n.id = p_job_id or not exists (select from persona.jobs as j where j.id = n.id)
  limit 1;
  if found then
    perform persona._invalid('depends_on', v_missing::text, 'ids of existing jobs are needed');
  end if;
  insert into persona.job_dependencies (job_id, needs_job_id, policy)
  select distinct p_job_id, n.id, p_policy from unnest(p_needs) as n (id);
  perform persona._settle_dependents(array(
    select j.id from persona.jobs as j
    where j.id = any(p_needs) and j.status in ('completed', 'failed', 'cancelled')));
  select * into v_job from persona.jobs as j where j.id = p_job_id;
  return v_job;
end $$;
comment on function persona._add_dependencies(uuid, uuid[], text) is 'Internal. Makes a new blocked job wait for others. PJ422.';
