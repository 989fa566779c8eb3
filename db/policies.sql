-- Row-level security: who is assigned to a business (assign_tenant) sees and changes its rows only. The policies are
-- here from the start and cost nothing until the first tenant switches them on (_enforce_tenants).
-- A table that is not named here is none of a tenant's business: the functions may use it, nobody assigned may read it.
do $$
declare
  v_mine constant text := '(select persona.my_tenants())';
  v_of_business constant text[] := array['jobs', 'cost_ledger'];
  v_of_job constant text[] := array['job_queue', 'job_leases', 'job_attempts', 'job_logs', 'job_dependencies', 'questions',
    'events', 'alerts'];
  v_of_vault constant text[] := array['note_markers', 'daily_note_state'];
  v_common constant text[] := array['agents', 'job_types', 'runners', 'gates', 'failure_policies', 'server_timeline',
    'schema_migrations'];
  v_table name;
  v_may text;
begin
  if to_regrole('persona_definer') is null then
    return;
  end if;
  for v_table in
    select c.relname from pg_class as c
    where c.relnamespace = 'persona'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    order by c.relname
  loop
    v_may := case
      when v_table = any(v_common) then 'true'
      when v_table = any(v_of_business) then format('%s is null or business = any(%s::text[])', v_mine, v_mine)
      when v_table = any(v_of_vault) then format('%s is null or tenant = any(%s::text[])', v_mine, v_mine)
      when v_table = any(v_of_job) then
        format('%s is null or exists (select from persona.jobs as j where j.id = %I.job_id)', v_mine, v_table)
      else format('%s is null or current_user = ''persona_definer''::name', v_mine)
    end;
    -- Making a policy locks its table, so it is made anew only where it says something else.
    if not exists (
      select from pg_policy as p
      where p.polrelid = format('persona.%I', v_table)::regclass and p.polname = 'tenant'
        and obj_description(p.oid, 'pg_policy') = v_may)
    then
      execute format('drop policy if exists tenant on persona.%I', v_table);
      execute format('create policy tenant on persona.%I using (%s) with check (%s)', v_table, v_may, v_may);
      execute format('comment on policy tenant on persona.%I is %L', v_table, v_may);
    end if;
  end loop;
end $$;
-- The vault of a tenant is marked as its own when its client first scans it.
do $$
begin
  if not exists (
    select from pg_attrdef as d where d.adrelid = 'persona.note_markers'::regclass
      and pg_get_expr(d.adbin, d.adrelid) like '%my_tenants%')
  then
    alter table persona.note_markers alter column tenant set default (persona.my_tenants())[1];
    alter table persona.daily_note_state alter column tenant set default (persona.my_tenants())[1];
  end if;
end $$;
do $$ begin perform persona._enforce_tenants(); end $$;
