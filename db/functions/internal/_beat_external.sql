-- Renews the lease of a program outside; also one that has run out but has not been recovered yet.
create or replace function persona._beat_external(p_job_id uuid, p_data jsonb) returns boolean
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_driver uuid;
  v_percent text := coalesce(p_data ->> 'progress', p_data ->> 'percent');
begin
  update persona.job_leases as l
  set heartbeat_at = now(), expires_at = now() + l.lease_length,
      pid = coalesce(case when p_data ->> 'pid' ~ '^\d{1,9}$' then (p_data ->> 'pid')::integer end, l.pid),
      progress = coalesce(case when v_percent ~ '^\d{1,3}(\.\d{1,6})?$' then v_percent::numeric end, l.progress),
      progress_text = coalesce(left(coalesce(p_data ->> 'message', p_data ->> 'text'), 500), l.progress_text)
  where l.job_id = p_job_id and l.is_external
  returning l.runner_id into v_driver;
  if not found then
    return false;
  end if;
  update persona.runners as r set last_seen_at = now()
  where r.id = v_driver and r.last_seen_at < now() - interval '10 seconds';
  return true;
end $$;
comment on function persona._beat_external(uuid, jsonb) is
  'Internal. Renews a lease held through the bridge; false where there is none.';
