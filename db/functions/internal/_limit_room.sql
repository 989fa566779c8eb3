-- Exact only where the caller holds the advisory lock on the name since an earlier statement.
create or replace function persona._limit_room(p_name text, p_with_wanting boolean default true)
returns bigint
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off as $$
declare
  v_limit integer;
  v_subject text := substr(p_name, strpos(p_name, ':') + 1);
begin
  if p_name like 'budget:%' then
    -- Where it will never fit it is let go too: the claim holds it.
    v_limit := persona._bucket_fits(
      substring(p_name from '^budget:(.*)\|'), substring(p_name from '\|([0-9.]+)$')::numeric);
    return case when v_limit >= 0 then v_limit else 1000 end;
  elsif p_name like 'conversation:%' then
    -- Also where it waits for what it delegated: its program has the conversation open.
    return 1 - (select count(*) from persona.job_leases as l where l.session_id = v_subject);
  end if;
  select l.max_running into v_limit from persona.limits as l where l.name = p_name;
  if not found then
    return null;
  elsif p_name = 'total' then
    return v_limit - (
      select count(*) from persona.job_leases as l
      where not l.is_external and (not l.is_waiting or (l.wants_slot and p_with_wanting)));
  elsif p_name like 'type:%' then
    return v_limit - (
      select count(*) from persona.agents as a
      join persona.job_leases as l on l.agent = a.name and l.job_type = v_subject
      where not l.is_waiting or (l.wants_slot and p_with_wanting));
  end if;
  return v_limit - (
    select count(*) from persona.job_leases as l
    where l.limit_key = v_subject and (not l.is_waiting or (l.wants_slot and p_with_wanting)));
end $$;
comment on function persona._limit_room(text, boolean) is
  'Internal. So many jobs may start under this limit now; null: there is no such limit. With wanting: lent slots that are wanted back count as taken.';
