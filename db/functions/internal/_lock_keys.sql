-- Orders writers that change who waits under a lock key. Taken after the rows of jobs and before those of job_queue,
-- all keys in one order; a claim only ever tries. So nothing deadlocks.
create or replace function persona._lock_keys(p_keys text[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_hash integer;
begin
  for v_hash in
    select distinct hashtext(k.key) as hash from unnest(p_keys) as k (key) where k.key is not null order by hash
  loop
    perform pg_advisory_xact_lock(hashtext('persona.lock_key'), v_hash);
  end loop;
end $$;
comment on function persona._lock_keys(text[]) is 'Internal. Locks lock keys until the end of the transaction.';
