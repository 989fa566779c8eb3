-- A budget of each agent, business, tree or job is as many buckets as there are of these. The maximum of a job is a
-- bucket of its own, for that job and all below it.
create or replace function persona._buckets(p_job persona.jobs)
returns table (bucket text, name text, scope text, subject text, period text, limit_usd numeric)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return query
    with recursive above as (
      select p_job.id as id, p_job.short_id as short_id, p_job.parent_job_id as parent_job_id,
        p_job.max_cost_usd as max_cost_usd
      union all
      select j.id, j.short_id, j.parent_job_id, j.max_cost_usd
      from above as a join persona.jobs as j on j.id = a.parent_job_id
    )
    select b.name || ':' || s.subject, b.name, b.scope, s.subject, b.period, b.limit_usd
    from persona.budgets as b
    cross join lateral (
      select case b.scope
        when 'total' then ''
        when 'agent' then p_job.agent
        when 'business' then p_job.business
        when 'tree' then coalesce(p_job.root_job_id, p_job.id)::text
        when 'job' then p_job.id::text
      end as subject) as s
    where b.is_active and s.subject is not null and coalesce(b.subject, s.subject) = s.subject
    union all
    select '@' || a.id, 'max cost of job ' || a.short_id, 'below', a.id::text, 'total', a.max_cost_usd
    from above as a where a.max_cost_usd is not null;
end $$;
comment on function persona._buckets(persona.jobs) is
  'Internal. What the money that a job costs is counted against: active budgets, its own maximum and those above it.';
