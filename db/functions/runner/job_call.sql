-- One door for what a running job asks of the queue through its runner. Whatever a command raises becomes the error
-- object of the answer, as in rpc, and the job can act only for itself and for what it delegated.
create or replace function persona.job_call(
  runner_id uuid, job_id uuid, lease bigint, command text, body jsonb default '{}') returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_sqlstate text;
  v_message text;
  v_detail text;
  v_hint text;
begin
  return jsonb_build_object('ok', true, 'data', persona._job_call(
    job_call.runner_id, job_call.job_id, job_call.lease, job_call.command, coalesce(job_call.body, '{}')));
exception when others then
  get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text,
    v_detail = pg_exception_detail, v_hint = pg_exception_hint;
  return jsonb_build_object('ok', false, 'error', persona._rpc_error(v_sqlstate, v_message, v_detail, v_hint));
end $$;
comment on function persona.job_call(uuid, uuid, bigint, text, jsonb) is
  'Runner API. Executes a command of the job that the runner holds under this lease (delegate, children, get, ask, wait, regain, resume) and returns {"ok": true, "data": ...} or {"ok": false, "error": {"code", "message", "retryable", "detail"}}.';
