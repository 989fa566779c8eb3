-- A bucket by its key; nothing where the budget is gone or off.
create or replace function persona._bucket(p_bucket text)
returns table (name text, scope text, subject text, period text, limit_usd numeric)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return query
    select b.name, b.scope, s.subject, b.period, b.limit_usd
    from (select split_part(p_bucket, ':', 1) as name, substr(p_bucket, strpos(p_bucket, ':') + 1) as subject) as s
    join persona.budgets as b on b.name = s.name and b.is_active
    where p_bucket not like '@%' and coalesce(b.subject, s.subject) = s.subject
    union all
    select 'max cost of job ' || j.short_id, 'below', j.id::text, 'total', j.max_cost_usd
    from persona.jobs as j
    where j.id = case when p_bucket like '@%' then substr(p_bucket, 2)::uuid end and j.max_cost_usd is not null;
end $$;
comment on function persona._bucket(text) is 'Internal. The budget and subject that a bucket stands for.';
