-- May the caller do what admins do? Members of persona_admin and the owner of the schema may.
create or replace function persona._is_admin() returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select exists (
    select from pg_roles as r
    where (r.rolname = 'persona_admin'
           or r.oid = (select n.nspowner from pg_namespace as n where n.nspname = 'persona'))
      and pg_has_role(persona._caller(), r.oid, 'member'));
$$;
comment on function persona._is_admin() is 'Internal. Is the caller an admin?';
