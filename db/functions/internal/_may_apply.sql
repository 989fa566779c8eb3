-- Whether a migration may run now. One whose name is NNNN_contract_P_what takes away what runners of a protocol below P
-- need: it is left for a later install while such a runner is alive, and from then on none can register. All others
-- expand, and always run. Older runners that were not seen for a lease hold nothing any more: they end here, and find
-- out when they come back.
-- The lock keeps runners from registering until the install is over; register_runner looks again behind it.
create or replace function persona._may_apply(migration text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_needed integer := substring(_may_apply.migration from '^\d{4}_contract_(\d+)_')::integer;
  v_names text;
begin
  if v_needed is null then
    return true;
  end if;
  lock table persona.runners in share row exclusive mode;
  select string_agg(r.name || ' (protocol ' || r.protocol || ')', ', ' order by r.name) into v_names
  from persona.runners as r
  where r.ended_at is null and r.protocol < v_needed and r.last_seen_at > now() - r.lease;
  if v_names is not null then
    raise warning 'left for later: %, while older runners are alive: %; upgrade them, or ask them to end (persona runners drain --outdated), then migrate again',
      _may_apply.migration, v_names;
    return false;
  end if;
  update persona.runners as r set ended_at = now(), ended_reason = 'lost'
  where r.ended_at is null and r.protocol < v_needed;
  delete from persona.idle_runners as i using persona.runners as r where r.id = i.runner_id and r.ended_at is not null;
  update persona.settings as s set value = to_jsonb(v_needed)
  where s.name = 'min_protocol' and (s.value #>> '{}')::integer < v_needed;
  return true;
end $$;
comment on function persona._may_apply(text) is
  'Internal. Tells whether a migration may run now; one that takes away what living runners need may not.';
