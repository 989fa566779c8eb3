create or replace function persona.release_job(ref text) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(release_job.ref);
begin
  if v_job.status <> 'held' then
    perform persona._raise('PJ423', format('job %s is %s, not held', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending'), null);
  end if;
  update persona.jobs as j
  set status = 'pending', status_reason = null, cancel_reason = null,
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = v_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function persona.release_job(text) is 'Client API. Lets a held job run. PJ404, PJ423.';
