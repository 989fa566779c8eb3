-- A program outside says how a job goes. It may only speak for what no runner has had: a job whose last lease is a
-- runner's is left to runners, also when that lease has run out. What has ended stays as it is; the same end told
-- again is answered as a success, so that plugin and script may both report it.
-- Report: {error, exit_code, result, outcome, pid}.
create or replace function persona._drive_job(p_ref text, p_status text, p_report jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs;
  v_lease persona.job_leases;
  v_holder text;
  v_is_ours boolean := true;
  v_was text;
  v_settled text;
begin
  if p_status is null or p_status not in ('running', 'completed', 'failed', 'cancelled') then
    perform persona._invalid('status', p_status, 'one of running, completed, failed, cancelled');
  end if;
  v_job := persona._lock_job(p_ref);
  v_was := v_job.status;
  if v_was in ('completed', 'failed', 'cancelled') then
    if v_was = p_status then
      return jsonb_build_object('success', true, 'status', v_was, 'idempotent', true);
    end if;
    return jsonb_build_object('success', false, 'status', v_was, 'idempotent', true,
      'error', format('Job already ended: %s', v_was));
  end if;

  if p_status = 'cancelled' then
    v_job := persona.cancel_job(v_job.id::text, coalesce(p_report ->> 'error', 'cancelled through the bridge'));
    return jsonb_build_object('success', true, 'status', v_job.status)
      || case when v_job.status = 'running' then '{"cancelRequested": true}'::jsonb else '{}' end;
  end if;

  if v_was = 'running' then
    select * into v_lease from persona.job_leases as l where l.job_id = v_job.id for update;
    v_is_ours := v_lease.is_external;
    select r.name into v_holder from persona.runners as r where r.id = v_lease.runner_id;
  elsif v_job.lease > 0 then
    select a.runner_name into v_holder from persona.job_attempts as a
    where a.job_id = v_job.id and a.lease = v_job.lease;
    v_is_ours := coalesce(v_holder like 'bridge:%', false);
  end if;
  if not v_is_ours then
    perform persona._raise('PJ423',
      format('job %s belongs to runner %s: only that reports how it goes', v_job.short_id, coalesce(v_holder, 'unknown')),
      jsonb_build_object('id', v_job.id, 'from', v_was, 'to', p_status), null);
  elsif v_was in ('blocked', 'held') then
    perform persona._raise('PJ423', format('job %s is %s and cannot become %s', v_job.short_id, v_was, p_status),
      jsonb_build_object('id', v_job.id, 'from', v_was, 'to', p_status), null);
  end if;

  if v_was = 'pending' then
    v_lease := persona._claim_external(v_job, (p_report ->> 'pid')::integer);
  else
    perform persona._beat_external(v_job.id, p_report);
  end if;
  if p_status = 'running' then
    return jsonb_build_object('success', true, 'status', 'running')
      || case when v_was = 'running' then '{"idempotent": true}'::jsonb else '{}' end;
  end if;
  select s.status into v_settled from persona._settle(v_lease.runner_id, jsonb_build_array(
    jsonb_build_object('job_id', v_job.id, 'lease', v_lease.lease,
      'outcome', case when p_status = 'completed' then 'completed' else coalesce(p_report ->> 'outcome', 'failed') end)
    || jsonb_strip_nulls(jsonb_build_object(
      'exit_code', (p_report ->> 'exit_code')::integer, 'pid', (p_report ->> 'pid')::integer,
      'result', case when jsonb_typeof(p_report -> 'result') <> 'null' then p_report -> 'result' end,
      'error', case when p_status = 'failed' then coalesce(nullif(p_report ->> 'error', ''), case
        when p_report ->> 'exit_code' is not null then format('exit code %s', p_report ->> 'exit_code')
        else 'failed without a reason' end) end)))) as s;
  if v_settled is distinct from 'ok' then
    perform persona._lease_lost(v_lease.runner_id, v_job.id, v_lease.lease);
  end if;
  return jsonb_build_object('success', true, 'status', p_status);
end $$;
comment on function persona._drive_job(text, text, jsonb) is
  'Internal. Starts or ends a job on the word of a program outside. PJ404, PJ422, PJ423.';
