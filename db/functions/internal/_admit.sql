-- Which of these locked jobs may start now, in their order, so that no limit is ever passed: the names they count
-- against are locked first (tried only: what somebody else is just counting is left for later), then the running jobs
-- are counted in a later statement, which sees all that was committed before. What finds no room is parked, with what
-- comes behind it of the same kind, so that a long queue of a full limit is read once.
create or replace function persona._admit(p_ids uuid[], out ids uuid[], out seqs bigint[], out parked boolean)
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_name text;
  v_names text[];
  v_locked text[] := array[]::text[];
  v_rooms bigint[] := array[]::bigint[];
  v_full text;
  v_job record;
  v_at integer;
begin
  parked := false;
  for v_name in
    select distinct n.name
    from persona.jobs as j
    cross join lateral unnest(persona._limit_names(j.job_type, j.limit_key, j.session_id)) as n (name)
    where j.id = any(p_ids) order by n.name
  loop
    if pg_try_advisory_xact_lock(hashtext('persona.limit'), hashtext(v_name)) then
      v_locked := v_locked || v_name;
    end if;
  end loop;
  foreach v_name in array v_locked loop
    v_rooms := v_rooms || coalesce(persona._limit_room(v_name), 10000);
  end loop;

  for v_job in
    select j.id, j.seq, j.agent, j.job_type, j.limit_key,
      persona._limit_names(j.job_type, j.limit_key, j.session_id) as names
    from persona.jobs as j
    join persona.job_queue as q on q.seq = j.seq
    where j.id = any(p_ids)
    order by q.priority desc, q.run_at, q.seq
  loop
    v_names := v_job.names;
    continue when not v_names <@ v_locked;
    v_full := null;
    foreach v_name in array v_names loop
      if v_rooms[array_position(v_locked, v_name)] <= 0 then
        v_full := v_name;
        exit when v_name <> 'total';
      end if;
    end loop;
    if v_full is null then
      ids := ids || v_job.id;
      seqs := seqs || v_job.seq;
      foreach v_name in array v_names loop
        v_at := array_position(v_locked, v_name);
        v_rooms[v_at] := v_rooms[v_at] - 1;
      end loop;
    elsif v_full <> 'total' then
      parked := true;
      update persona.job_queue as q set waits_on = 'limit', parked_for = v_full where q.seq = v_job.seq;
      if v_full not like 'conversation:%' then
        update persona.job_queue as q set waits_on = 'limit', parked_for = v_full
        where q.seq = any(array(
          select o.seq
          from (
            select f.seq, f.job_id from persona.job_queue as f
            where f.agent = v_job.agent and f.waits_on is null and f.job_id <> all(p_ids)
            order by f.priority desc, f.run_at, f.seq limit 1000 for update skip locked) as o
          join persona.jobs as j on j.id = o.job_id
          where case when v_full like 'type:%' then j.job_type = v_job.job_type else j.limit_key = v_job.limit_key end));
      end if;
    end if;
  end loop;
end $$;
comment on function persona._admit(uuid[]) is 'Internal. Jobs that limits and conversations let start; parks the others.';
