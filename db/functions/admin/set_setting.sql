create or replace function persona.set_setting(name text, value jsonb) returns persona.settings
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_setting persona.settings;
  v_kind text;
begin
  update persona.settings as s set value = set_setting.value
  where s.name = set_setting.name
    and jsonb_typeof(set_setting.value) = case jsonb_typeof(s.value) when 'null' then jsonb_typeof(set_setting.value)
      else jsonb_typeof(s.value) end
  returning * into v_setting;
  if not found then
    select jsonb_typeof(s.value) into v_kind from persona.settings as s where s.name = set_setting.name;
    if found then
      perform persona._invalid('value', set_setting.value::text, format('%s is a %s', set_setting.name, v_kind));
    end if;
    perform persona._invalid('name', set_setting.name,
      format('one of: %s', (select string_agg(s.name, ', ' order by s.name) from persona.settings as s)));
  end if;
  return v_setting;
end $$;
comment on function persona.set_setting(text, jsonb) is 'Admin API. Changes a setting of the queue. PJ422.';
