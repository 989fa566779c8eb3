-- A lock key may be free again: lets the first job of each agent that was parked for it back into the claim. Of each
-- agent, because the first of all may belong to an agent that is disabled, full or served by nobody: the others must
-- not wait for it. Whoever is claimed first has the key, and the next claim parks the rest again.
-- The lock on the key orders this against a claim that is just parking a job under it: either its commit is seen
-- here, or it sees the key free.
create or replace function persona._unpark(p_keys text[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_agent text;
begin
  perform persona._lock_keys(p_keys);
  for v_agent in
    with head as materialized (
      select distinct f.seq
      from unnest(p_keys) as k (key)
      cross join persona.agents as a
      cross join lateral (
        select q.seq from persona.job_queue as q
        where q.lock_key = k.key and q.waits_on = 'lock' and q.agent = a.name
        order by q.priority desc, q.run_at, q.seq limit 1) as f
    ), freed as (
      update persona.job_queue as q set waits_on = null
      where q.seq = any(array(select h.seq from head as h))
      returning q.agent
    )
    select distinct f.agent from freed as f
  loop
    perform persona._wake(v_agent);
  end loop;
end $$;
comment on function persona._unpark(text[]) is 'Internal. Makes the first job of each agent parked under these keys claimable.';
