-- Jobs whose lease has run out: their runner has killed them by then, or its guardian has. The oldest first, and at
-- most 500 in one call.
create or replace function persona.recover_hung_jobs()
returns table (id uuid, short_id text, status text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_lease record;
begin
  for v_lease in
    select l.job_id, l.lease, l.heartbeat_at from persona.job_leases as l
    where l.expires_at < now() order by l.expires_at limit 500
  loop
    return query
      select o.id, o.short_id, o.status, o.reason
      from persona._orphan(v_lease.job_id, v_lease.lease,
        format('lease ran out, last heartbeat %s', v_lease.heartbeat_at), false) as o;
  end loop;
end $$;
comment on function persona.recover_hung_jobs() is
  'Runner API. Makes jobs whose lease has run out pending again without costing an attempt, or failed after too many rescues (setting rescue_cap), and returns them.';
