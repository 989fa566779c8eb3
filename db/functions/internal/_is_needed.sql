-- Anywhere below it, because a tree is shown and cancelled from its top. Most jobs have nothing below: one look-up.
create or replace function persona._is_needed(p_job_id uuid) returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  with recursive below as (
    select c.id, c.status from persona.jobs as c where c.parent_job_id = p_job_id
    union all
    select c.id, c.status from below as b
    join persona.jobs as c on c.parent_job_id = b.id
  )
  select exists (select from below as b where b.status not in ('completed', 'failed', 'cancelled'))
    or exists (
      select from persona.job_dependencies as d
      join persona.jobs as w on w.id = d.job_id
      where d.needs_job_id = p_job_id and w.status = 'blocked');
$$;
comment on function persona._is_needed(uuid) is 'Internal. Is a finished job still above an unfinished one, or needed by a blocked one?';
