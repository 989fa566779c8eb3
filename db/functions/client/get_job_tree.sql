create or replace function persona.get_job_tree(id uuid)
returns table (
  depth integer, job_id uuid, parent_job_id uuid, short_id text, job_type text, agent text, status text,
  duration_seconds numeric, created_at timestamptz, started_at timestamptz, completed_at timestamptz,
  task_preview text)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  with recursive tree as (
    select 0 as level, array[j.seq] as path, j as job
    from persona.jobs as j
    where j.id = get_job_tree.id
    union all
    select t.level + 1, t.path || c.seq, c
    from tree as t
    join persona.jobs as c on c.parent_job_id = (t.job).id
  )
  select t.level, (t.job).id, (t.job).parent_job_id, (t.job).short_id, (t.job).job_type, (t.job).agent,
    (t.job).status,
    round(extract(epoch from coalesce((t.job).completed_at, now()) - (t.job).started_at), 1),
    (t.job).created_at, (t.job).started_at, (t.job).completed_at, persona._task_preview((t.job).payload)
  from tree as t
  order by t.path;
$$;
comment on function persona.get_job_tree(uuid) is
  'Viewer API. The job and everything delegated below it, depth first, each with its depth below that job.';
