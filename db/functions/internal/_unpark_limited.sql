-- Limits that have room again: as many of the jobs parked for them go back into the claim, the first of each agent.
-- The claim does that and not the end of a job, which therefore never waits for a claim.
create or replace function persona._unpark_limited(p_agents text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off as $$
declare
  v_name text;
  v_room bigint;
begin
  for v_name in select n.name from persona._parked_names() as n (name) loop
    continue when not pg_try_advisory_xact_lock(hashtext('persona.limit'), hashtext(v_name));
    v_room := coalesce(persona._limit_room(v_name), 1000);
    continue when v_room <= 0;
    update persona.job_queue as q set waits_on = null, parked_for = null
    where q.seq = any(array(
      select f.seq
      from unnest(p_agents) as a (name)
      cross join lateral (
        select o.seq from persona.job_queue as o
        where o.waits_on = 'limit' and o.parked_for = v_name and o.agent = a.name
        order by o.priority desc, o.run_at, o.seq limit least(v_room, 1000)
        for update skip locked) as f));
  end loop;
end $$;
comment on function persona._unpark_limited(text[]) is 'Internal. Makes jobs of these agents claimable that were parked for limits which have room now.';
