create or replace function persona.hold_job(ref text, reason text default null) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(hold_job.ref);
begin
  if v_job.status not in ('pending', 'running', 'held') then
    perform persona._raise('PJ423', format('job %s is %s and cannot be held', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'held'),
      'Only pending and running jobs can be held.');
  end if;
  return persona._stop_job(v_job.id, coalesce(nullif(hold_job.reason, ''), 'held by hand'), false, 'held');
end $$;
comment on function persona.hold_job(text, text) is
  'Client API. Keeps a job from running until release_job. A running one is stopped by its runner first, which costs no attempt. PJ404, PJ423.';
