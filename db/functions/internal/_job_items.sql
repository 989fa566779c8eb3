-- The elements of create_jobs as typed rows, numbered from 1.
create or replace function persona._job_items(p_jobs jsonb)
returns table (
  n bigint, job_type text, payload jsonb, agent text, id uuid, priority integer, run_at timestamptz,
  timeout interval, idle_timeout interval, max_attempts integer, dedupe_key text, lock_key text,
  parent_job_id uuid, depends_on uuid[], tags text[], source_file text, source_line integer,
  delegated_by text, business text, depends_policy text, limit_key text, max_cost_usd numeric)
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select i.n, i.job_type, i.payload, i.agent, i.id, i.priority, i.run_at, i.timeout, i.idle_timeout,
    i.max_attempts, i.dedupe_key, i.lock_key, i.parent_job_id, i.depends_on, i.tags, i.source_file,
    i.source_line, i.delegated_by, i.business, i.depends_policy, i.limit_key, i.max_cost_usd
  from rows from (jsonb_to_recordset(p_jobs) as (
    job_type text, payload jsonb, agent text, id uuid, priority integer, run_at timestamptz,
    timeout interval, idle_timeout interval, max_attempts integer, dedupe_key text, lock_key text,
    parent_job_id uuid, depends_on uuid[], tags text[], source_file text, source_line integer,
    delegated_by text, business text, depends_policy text, limit_key text, max_cost_usd numeric)) with ordinality
    as i (job_type, payload, agent, id, priority, run_at, timeout, idle_timeout, max_attempts, dedupe_key,
      lock_key, parent_job_id, depends_on, tags, source_file, source_line, delegated_by, business, depends_policy, limit_key,
      max_cost_usd, n);
$$;
comment on function persona._job_items(jsonb) is 'Internal. Elements of create_jobs as rows.';
