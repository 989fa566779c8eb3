-- A runner has lost its connection and opened another one. What it sent over the old one may still be under way, for
-- as long as the server takes to notice: a claim would hand out jobs that nobody hears of, a reconcile would give back
-- what has been claimed since. Both name their connection and are refused from here on; those that are just running
-- hold the lock below, so this waits for their end and sees what they did.
create or replace function persona.open_connection(runner_id uuid) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_number integer;
begin
  perform persona._runner(open_connection.runner_id);
  perform pg_advisory_xact_lock(hashtext('persona.connection'), hashtext(open_connection.runner_id::text));
  update persona.runners as r set connection = r.connection + 1, last_seen_at = now()
  where r.id = open_connection.runner_id
  returning r.connection into v_number;
  return v_number;
end $$;
comment on function persona.open_connection(uuid) is
  'Runner API. The number of the connection that the runner has opened after losing one, to be named by claim_jobs and reconcile. PJ410.';
