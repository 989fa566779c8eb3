-- What a client that is restricted to its businesses writes is of one of them. Enabled with the first tenant only
-- (_enforce_tenants), so that nobody pays for it who has none. What a function of the owner writes for everybody, such
-- as a job that delivers an alert, is not the caller's.
create or replace function persona._jobs_tenant() returns trigger
language plpgsql
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_mine text[];
begin
  if current_user = 'persona_definer' then
    v_mine := persona.my_tenants();
    if v_mine is not null and new.business is null and cardinality(v_mine) = 1 then
      new.business := v_mine[1];
    elsif v_mine is not null and not coalesce(new.business = any(v_mine), false) then
      perform persona._raise('PJ403',
        format('role %s may not have jobs of business %s', persona._caller(), coalesce(new.business, '(none)')),
        jsonb_build_object('role', persona._caller(), 'business', new.business, 'allowed', to_jsonb(v_mine)),
        format('Name one of: %s.', array_to_string(v_mine, ', ')));
    end if;
  end if;
  if tg_op = 'INSERT' and new.dedupe_key is not null then
    new.dedupe_live := persona._tenant_key(new.business, new.dedupe_key);
  end if;
  new.lock_key := persona._tenant_key(new.business, new.lock_key);
  new.limit_key := persona._tenant_key(new.business, new.limit_key);
  return new;
end $$;
comment on function persona._jobs_tenant() is 'Trigger. Gives a tenant''s job its business and keys of its own. PJ403.';

do $$
begin
  if not exists (
    select from pg_trigger as t where t.tgrelid = 'persona.jobs'::regclass and t.tgname = 'jobs_tenant')
  then
    create trigger jobs_tenant before insert or update of business, lock_key, limit_key on persona.jobs
    for each row execute function persona._jobs_tenant();
    alter table persona.jobs disable trigger jobs_tenant;
  end if;
end $$;
