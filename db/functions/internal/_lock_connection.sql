-- The lock is shared among the calls of a runner and orders them against open_connection. It is only tried: where a
-- new connection is being opened, this one is the old one.
create or replace function persona._lock_connection(p_runner_id uuid) returns boolean
language sql volatile
return pg_try_advisory_xact_lock_shared(hashtext('persona.connection'), hashtext(p_runner_id::text));
comment on function persona._lock_connection(uuid) is
  'Internal. Keeps a new connection of the runner from being opened until the end of the transaction; false: one is being opened.';
