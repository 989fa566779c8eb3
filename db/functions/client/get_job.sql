create or replace function persona.get_job(ref text) returns persona.jobs
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select j from persona.jobs as j where j.id = persona.resolve_job(get_job.ref);
$$;
comment on function persona.get_job(text) is 'Viewer API. The row of a job, by id, short id or beginning. PJ404, PJ300.';
