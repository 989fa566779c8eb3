-- The newest ended jobs. Completed ones have no index of their own: the newest ids are read backwards.
create or replace function persona._bridge_ended(p_statuses text[], p_limit integer) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_build_object('jobs', coalesce(jsonb_agg(
    persona._bridge_job(c.id,
      '{id,shortId,type,status,assignedTo,createdAt,startedAt,completedAt,error,exitCode,pid}')
    order by c.completed_at desc, c.id desc), '[]'))
  from (
    select j.id, j.completed_at from persona.jobs as j
    where j.status = any(p_statuses) and (p_statuses <> '{failed}' or j.attention = 'failed')
    order by j.id desc limit p_limit) as c;
$$;
comment on function persona._bridge_ended(text[], integer) is 'Internal. get_completed_jobs and get_failed_jobs of the bridge.';
