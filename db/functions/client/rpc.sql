-- One door for programs that speak JSON. Whatever a command raises becomes the error object of the answer, and
-- what it wrote until then is rolled back by the block's own savepoint. Who may call a command is who may execute
-- the function behind it.
create or replace function persona.rpc(command text, body jsonb default '{}') returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_sqlstate text;
  v_message text;
  v_detail text;
  v_hint text;
begin
  return jsonb_build_object(
    'ok', true, 'v', 1, 'data', persona._rpc_call(rpc.command, coalesce(rpc.body, '{}')));
exception when others then
  get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text,
    v_detail = pg_exception_detail, v_hint = pg_exception_hint;
  return jsonb_build_object(
    'ok', false, 'v', 1, 'error', persona._rpc_error(v_sqlstate, v_message, v_detail, v_hint));
end $$;
comment on function persona.rpc(text, jsonb) is
  'Client API. Executes a command (create, create_many, get, list, logs, tree, explain, cancel, cancel_pending, retry, hold, release, answer, questions, update, summary, agents, stats, events, version) with the arguments in body and returns {"ok": true, "v": 1, "data": ...} or {"ok": false, "v": 1, "error": {"code", "message", "retryable", "detail"}}. Writes nothing on error. Each command needs the right to the function behind it.';
