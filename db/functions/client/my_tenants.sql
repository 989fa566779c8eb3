-- The businesses that the caller is restricted to; null: it is not. This is what row-level security asks.
-- The session user is the login, which nobody but a superuser can change; it counts first, so that SET ROLE leads out
-- of no tenant. The role setting counts for pools, which log in as themselves and set the role of their user: a caller
-- can set it only to a role that it is a member of.
create or replace function persona.my_tenants() returns text[]
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_businesses text[] := (
    select array_agg(t.business order by t.business) from persona.tenants as t where t.role_name = session_user);
begin
  if v_businesses is null then
    v_businesses := (
      select array_agg(t.business order by t.business) from persona.tenants as t
      where t.role_name = current_setting('role')::name);
  end if;
  if v_businesses is null and persona._setting('tenants_required')::boolean and not persona._is_admin()
     and not coalesce(pg_has_role(persona._caller(), to_regrole('persona_runner')::oid, 'member'), false)
  then
    return array[]::text[];
  end if;
  return v_businesses;
end $$;
comment on function persona.my_tenants() is
  'Viewer API. The businesses whose jobs the caller sees; null: all. See assign_tenant.';
