-- The first assignment switches row-level security on, which locks each table for a moment; where a long transaction
-- is in the way it gives up after 5 s with nothing changed, and may be called again.
create or replace function persona.assign_tenant(role_name text, businesses text[]) returns setof persona.tenants
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set lock_timeout = '5s' as $$
#variable_conflict use_column
declare
  v_role pg_roles;
  v_bad text;
  v_new text[];
begin
  select * into v_role from pg_roles as r where r.rolname = assign_tenant.role_name;
  if not found then
    perform persona._invalid('role_name', assign_tenant.role_name, 'the name of an existing role is needed; create role makes one');
  elsif v_role.rolsuper or v_role.rolbypassrls
     or pg_has_role(v_role.rolname, (
       select n.nspowner from pg_namespace as n where n.nspname = 'persona'), 'usage')
     or coalesce(pg_has_role(v_role.rolname, to_regrole('persona_admin')::oid, 'usage'), false)
     or coalesce(pg_has_role(v_role.rolname, to_regrole('persona_runner')::oid, 'usage'), false)
  then
    perform persona._invalid('role_name', assign_tenant.role_name,
      'a role that is only client or viewer is needed: owner, superusers, admins and runners work for all businesses');
  elsif not exists (
    select from pg_proc as p join pg_roles as r on r.oid = p.proowner
    where p.pronamespace = 'persona'::regnamespace and p.proname = 'create_job' and r.rolname = 'persona_definer')
  then
    perform persona._raise('PJ403', 'tenants need the role persona_definer, which the installation could not make', null,
      'A role with CREATEROLE that is a member of the schema''s owner runs db/roles.sql and db/policies.sql.');
  end if;
  select b.name into v_bad from unnest(assign_tenant.businesses) as b (name)
  where coalesce(b.name, '') = '' or b.name ~ ':' limit 1;
  if found then
    perform persona._invalid('businesses', v_bad, 'names without a colon are needed');
  end if;
  v_new := array(
    select b.name from unnest(assign_tenant.businesses) as b (name)
    where not exists (select from persona.tenants as t where t.business = b.name));

  delete from persona.tenants as t where t.role_name = assign_tenant.role_name;
  insert into persona.tenants (role_name, business, assigned_by)
  select distinct v_role.rolname, b.name, persona._caller() from unnest(assign_tenant.businesses) as b (name);
  perform persona._enforce_tenants();
  -- From now on the keys of these businesses are their own; those of unfinished jobs become so.
  update persona.jobs as j
  set dedupe_live = persona._tenant_key(j.business, j.dedupe_key)
  where j.business = any(v_new) and j.dedupe_live is not null;
  return query select t.* from persona.tenants as t where t.role_name = assign_tenant.role_name order by t.business;
end $$;
comment on function persona.assign_tenant(text, text[]) is
  'Admin API. Restricts a login role to jobs of these businesses, in place of those it had; none: it sees all again. A role may have several; a job that names no business is of the only one. PJ422, PJ403.';
