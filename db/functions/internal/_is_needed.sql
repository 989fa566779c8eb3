create or replace function persona._is_needed(p_job_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select exists (
      select from persona.jobs as c
      where c.parent_job_id = p_job_id and c.status not in ('completed', 'failed', 'cancelled'))
    or exists (
      select from persona.job_dependencies as d
      join persona.jobs as w on w.id = d.job_id
      where d.needs_job_id = p_job_id and w.status = 'blocked');
$$;
comment on function persona._is_needed(uuid) is 'Internal. Is a finished job still the parent or the need of an unfinished one?';
