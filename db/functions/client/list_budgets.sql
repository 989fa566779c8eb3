-- A budget of each agent or business has a row for each that has spent or reserved something in its period; one of each
-- tree or job has one for each that runs or is held for it. A function, so that who may look need not be allowed to
-- call what it calls. Who is restricted to businesses sees the budgets of these and of their jobs.
create or replace function persona.list_budgets()
returns table (
  name text, scope text, subject text, period text, limit_usd numeric, used_usd numeric, reserved_usd numeric,
  left_usd numeric, percent_used numeric, held bigint, parked bigint, opens_at timestamptz, is_active boolean,
  updated_at timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_tenants text[] := persona.my_tenants();
begin
  return query
    select b.name, b.scope, s.subject, b.period, b.limit_usd, m.booked as used_usd, m.reserved as reserved_usd,
      greatest(0, b.limit_usd - m.booked - m.reserved) as left_usd,
      case when b.limit_usd > 0 then round(100 * m.booked / b.limit_usd, 1) else 100 end as percent_used,
      (select count(*) from persona.budget_holds as h join persona.jobs as j on j.id = h.job_id
       where j.status = 'held' and h.bucket = b.name || ':' || coalesce(s.subject, '')) as held,
      (select count(*) from persona.job_queue as q
       where q.waits_on = 'limit' and q.parked_for like 'budget:' || b.name || ':' || coalesce(s.subject, '') || '|%') as parked,
      persona._period_end(b.period) as opens_at, b.is_active, b.updated_at
    from persona.budgets as b
    left join lateral (
      select b.subject where b.subject is not null
      union
      select case b.scope when 'agent' then c.agent else nullif(c.business, '') end
      from (
        select t.day, t.agent, t.business from persona.cost_totals as t
        union all
        select f.day, f.agent, f.business from persona.cost_fresh as f) as c
      where b.scope in ('agent', 'business') and b.subject is null and c.day >= persona._period_start(b.period)
      union
      select case b.scope when 'agent' then l.agent when 'business' then j.business when 'tree' then j.root_job_id::text
        else l.job_id::text end
      from persona.job_leases as l
      join persona.jobs as j on j.id = l.job_id
      where b.scope <> 'total' and b.subject is null and l.reserved_usd is not null
      union
      select substr(h.bucket, length(b.name) + 2) from persona.budget_holds as h
      join persona.jobs as j on j.id = h.job_id and j.status = 'held'
      where b.scope <> 'total' and b.subject is null and h.bucket like b.name || ':%') as s (subject)
      on b.scope <> 'total' and s.subject is not null
    left join lateral persona._money_of(b.scope, coalesce(s.subject, ''), b.period) as m
      on b.scope = 'total' or s.subject is not null
    where v_tenants is null
      or case
        when b.scope = 'business' then s.subject = any(v_tenants)
        when b.scope in ('tree', 'job') then exists (select from persona.jobs as j where j.id = s.subject::uuid)
      end
    order by b.name, s.subject;
end $$;
comment on function persona.list_budgets() is 'Viewer API. Budgets, and how far each is used up in its running period.';
