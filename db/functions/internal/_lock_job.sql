-- Locks a job for change and returns it. NO KEY UPDATE: the insert of a child does not wait for it.
create or replace function persona._lock_job(p_ref text) returns persona.jobs
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs;
begin
  select * into v_job from persona.jobs as j where j.id = persona.resolve_job(p_ref) for no key update;
  if not found then
    perform persona._raise('PJ404', format('no job "%s"', p_ref), jsonb_build_object('ref', p_ref), null);
  end if;
  return v_job;
end $$;
comment on function persona._lock_job(text) is 'Internal. The job, locked for change. PJ404, PJ300.';
