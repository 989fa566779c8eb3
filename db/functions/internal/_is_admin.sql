-- May the caller do what admins do? Members of persona_admin and the owner of the schema may.
create or replace function persona._is_admin() returns boolean
language sql stable
return pg_has_role(persona._caller(), (
    select n.nspowner from pg_catalog.pg_namespace as n where n.nspname = 'persona'), 'member')
  or coalesce(pg_has_role(persona._caller(), to_regrole('persona_admin')::oid, 'member'), false);
comment on function persona._is_admin() is 'Internal. Is the caller an admin?';
