create or replace function persona._check_parent(p_parent_job_id uuid) returns persona.jobs
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_parent persona.jobs;
begin
  select * into v_parent from persona.jobs as j where j.id = p_parent_job_id;
  if not found then
    perform persona._invalid('parent_job_id', p_parent_job_id::text, 'the id of an existing job is needed');
  end if;
  if v_parent.depth >= persona._setting('max_depth')::integer then
    perform persona._invalid('parent_job_id', p_parent_job_id::text,
      format('that job is at depth %s, and the setting max_depth allows no deeper delegation', v_parent.depth));
  end if;
  return v_parent;
end $$;
comment on function persona._check_parent(uuid) is 'Internal. The parent of a new job. PJ422.';
