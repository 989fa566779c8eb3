-- Keys by which jobs meet (dedupe_key, lock_key, limit_key) are a tenant's own: else one could find out by trying what
-- another is doing, or hold it up. Where a business has no login role assigned its keys are common, as ever.
create or replace function persona._tenant_key(p_business text, p_key text) returns text
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if p_key is null or p_business is null or starts_with(p_key, p_business || ':')
     or not exists (select from persona.tenants as t where t.business = p_business)
  then
    return p_key;
  end if;
  return p_business || ':' || p_key;
end $$;
comment on function persona._tenant_key(text, text) is 'Internal. A key as it is stored: with the business before it where that is a tenant''s.';
