-- Makes a budget, or changes the given parts of one that exists. Null means: as it is, or the default.
-- A claim that is under way meanwhile ends under what it has read, as if it had come before. What runs already was not
-- asked for: it is reserved now, so that the first claims under a new budget know of it.
create or replace function persona.set_budget(
  name text, limit_usd numeric default null, scope text default null, subject text default null,
  period text default null, is_active boolean default null
) returns persona.budgets
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_old persona.budgets;
  v_scope text;
  v_subject text;
  v_budget persona.budgets;
  v_running uuid[];
  v_amounts numeric[];
begin
  if coalesce(set_budget.name, '') !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
    perform persona._invalid('name', set_budget.name,
      'lower case letters, digits, ".", "_" and "-" are allowed, at most 63, beginning with a letter or digit');
  end if;
  select * into v_old from persona.budgets as b where b.name = set_budget.name for update;
  v_scope := coalesce(set_budget.scope, v_old.scope, 'total');
  v_subject := nullif(coalesce(set_budget.subject, case when v_scope = v_old.scope then v_old.subject end), '');
  if coalesce(set_budget.limit_usd, v_old.limit_usd, -1) < 0 then
    perform persona._invalid('limit_usd', set_budget.limit_usd::text, 'US dollars, 0 or more, are needed');
  elsif v_scope not in ('total', 'business', 'agent', 'tree', 'job') then
    perform persona._invalid('scope', v_scope, 'one of total, business, agent, tree, job');
  elsif coalesce(set_budget.period, 'total') not in ('total', 'day', 'month') then
    perform persona._invalid('period', set_budget.period, 'one of total, day, month');
  elsif v_scope = 'total' and v_subject is not null then
    perform persona._invalid('subject', v_subject, 'a budget of everything has none: name the scope agent, business, tree or job');
  elsif v_scope = 'agent' and v_subject is not null
    and not exists (select from persona.agents as a where a.name = v_subject)
  then
    perform persona._unknown_agent('subject', v_subject);
  elsif v_scope in ('tree', 'job') and v_subject is not null then
    v_subject := persona.resolve_job(v_subject)::text;
  end if;
  insert into persona.budgets as b (name, scope, subject, period, limit_usd, is_active)
  values (
    set_budget.name, v_scope, v_subject, coalesce(set_budget.period, v_old.period, 'total'),
    coalesce(set_budget.limit_usd, v_old.limit_usd), coalesce(set_budget.is_active, v_old.is_active, true))
  on conflict (name) do update
  set scope = excluded.scope, subject = excluded.subject, period = excluded.period, limit_usd = excluded.limit_usd,
      is_active = excluded.is_active, updated_at = now()
  returning * into v_budget;
  select array_agg(l.job_id), array_agg(persona._cost_ahead(j)) into v_running, v_amounts
  from (
    select o.job_id from persona.job_leases as o
    where o.reserved_usd is null and not o.is_external for no key update skip locked) as l
  join persona.jobs as j on j.id = l.job_id
  where v_budget.is_active;
  perform persona._keep_reservations(v_running, v_amounts);
  perform persona._reopen_budgets();
  perform persona._wake('*');
  return v_budget;
end $$;
comment on function persona.set_budget(text, numeric, text, text, text, boolean) is
  'Admin API. So many US dollars may be spent: in scope total, business, agent, tree (of delegation) or job, of one subject or of each (subject empty), in all or in each period day or month (UTC). A null argument leaves that part as it is. Jobs that were held for it go on where there is room now. PJ422, PJ404.';
