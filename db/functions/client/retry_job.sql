-- The only way back from failed or cancelled. Attempts start again at 1; the lease number does not.
create or replace function persona.retry_job(ref text) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(retry_job.ref);
begin
  if v_job.status not in ('failed', 'cancelled') then
    perform persona._raise('PJ423',
      format('job %s is %s: only failed and cancelled jobs can be retried', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending'), null);
  end if;
  begin
    update persona.jobs as j
    set status = 'pending', status_reason = null, attempt = 0, interruptions = 0, run_at = now(), retried_at = now(),
        completed_at = null, exit_code = null, error = null, failure_kind = null, result = null, progress = null,
        progress_text = null, cancel_requested_at = null, cancel_reason = null, cancel_force = false, stop_as = null,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = v_job.id
    returning * into v_job;
  exception when unique_violation then
    perform persona._raise('PJ423',
      format('job %s cannot be retried: another unfinished job has its dedupe key "%s"', v_job.short_id, v_job.dedupe_key),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending', 'dedupe_key', v_job.dedupe_key),
      'Wait until that one has ended, or cancel it.');
  end;
  return v_job;
end $$;
comment on function persona.retry_job(text) is
  'Client API. Makes a failed or cancelled job pending again with all its attempts. PJ404, PJ423.';
