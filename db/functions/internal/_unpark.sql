-- A lock key may be free again: lets the first job that was parked for it back into the claim.
-- The advisory lock orders this against a claim that is just parking a job under the key: either its commit is
-- seen here, or it sees the key free. Keys are locked in one order; a claim only ever tries, so nothing deadlocks.
create or replace function persona._unpark(p_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_key text;
  v_agent text;
begin
  for v_key in
    select k.key from unnest(p_keys) as k (key) where k.key is not null
    group by k.key order by hashtext(k.key), k.key
  loop
    perform pg_advisory_xact_lock(hashtext('persona.lock_key'), hashtext(v_key));
    update persona.job_queue as q set waits_on = null
    where q.seq = (
      select f.seq from persona.job_queue as f
      where f.lock_key = v_key and f.waits_on = 'lock'
      order by f.priority desc, f.run_at, f.seq limit 1)
    returning q.agent into v_agent;
    perform persona._wake(coalesce(v_agent, '*'));
  end loop;
end $$;
comment on function persona._unpark(text[]) is 'Internal. Makes the first job parked under each key claimable.';
