-- The jobs of create_jobs one by one, in the order given: where they have relatives or may need approval, and where some
-- are there already, for which create_job has the answer, also where a live one has just ended.
create or replace function persona._create_each(p_jobs jsonb) returns setof uuid
language sql volatile
set search_path = pg_catalog, persona, pg_temp as $$
  select (persona.create_job(
    i.job_type, coalesce(i.payload, '{}'), i.agent, i.id, coalesce(i.priority, 0), i.run_at, i.timeout, i.idle_timeout,
    i.max_attempts, i.dedupe_key, i.lock_key, i.parent_job_id, i.depends_on, i.tags, i.source_file, i.source_line,
    i.delegated_by, i.business, coalesce(i.depends_policy, 'succeeded'), i.limit_key, i.max_cost_usd)).id
  from persona._job_items(p_jobs) as i
  order by i.n;
$$;
comment on function persona._create_each(jsonb) is 'Internal. create_job for each element of create_jobs.';
