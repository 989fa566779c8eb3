create or replace function persona.set_limit(name text, max_running integer) returns persona.limits
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_limit persona.limits;
begin
  if set_limit.name is null or not (set_limit.name = 'total' or set_limit.name ~ '^(type|key):.') then
    perform persona._invalid('name', set_limit.name, 'total, type:JOB_TYPE or key:LIMIT_KEY (that of an agent is its max_concurrent)');
  elsif set_limit.max_running is null or set_limit.max_running < 0 then
    perform persona._invalid('max_running', set_limit.max_running::text, '0 or more is needed');
  end if;
  perform pg_advisory_xact_lock(hashtext('persona.limit'), hashtext(set_limit.name));
  insert into persona.limits (name, max_running) values (set_limit.name, set_limit.max_running)
  on conflict (name) do update set max_running = excluded.max_running, updated_at = now()
  returning * into v_limit;
  perform persona._wake('*');
  return v_limit;
end $$;
comment on function persona.set_limit(text, integer) is
  'Admin API. So many jobs may run at once, on all machines together: name is total, type:JOB_TYPE or key:LIMIT_KEY. What runs already goes on. PJ422.';
