create or replace function persona.remove_limit(name text) returns persona.limits
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_limit persona.limits;
begin
  perform pg_advisory_xact_lock(hashtext('persona.limit'), hashtext(remove_limit.name));
  delete from persona.limits as l where l.name = remove_limit.name returning * into v_limit;
  if not found then
    perform persona._invalid('name', remove_limit.name, coalesce('there are: '
      || (select string_agg(l.name, ', ' order by l.name) from persona.limits as l), 'no limit is set'));
  end if;
  update persona.job_queue as q set waits_on = null, parked_for = null
  where q.waits_on = 'limit' and q.parked_for = remove_limit.name;
  perform persona._wake('*');
  return v_limit;
end $$;
comment on function persona.remove_limit(text) is 'Admin API. Takes a limit away and lets go what was parked for it. PJ422.';
