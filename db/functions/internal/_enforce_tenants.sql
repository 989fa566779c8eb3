-- Row-level security costs every statement of a client something, so it is switched on with the first tenant. From then
-- on it stays, also for tables that an upgrade adds. The owner of the tables, and so what runners and admins call, is
-- not subject to it.
create or replace function persona._enforce_tenants() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_table regclass;
begin
  if not exists (select from persona.tenants) and not persona._setting('tenants_required')::boolean then
    return;
  end if;
  for v_table in
    select c.oid::regclass from pg_class as c
    where c.relnamespace = 'persona'::regnamespace and not c.relrowsecurity
      and exists (select from pg_policy as p where p.polrelid = c.oid)
    order by c.relname
  loop
    execute format('alter table %s enable row level security', v_table);
  end loop;
  if exists (
    select from pg_trigger as t
    where t.tgrelid = 'persona.jobs'::regclass and t.tgname = 'jobs_tenant' and t.tgenabled = 'D')
  then
    alter table persona.jobs enable trigger jobs_tenant;
  end if;
end $$;
comment on function persona._enforce_tenants() is 'Internal. Switches row-level security on once there is a tenant.';
