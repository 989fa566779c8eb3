-- The first system's door. Its client takes every answer with a true "error" as a failure and repeats the call
-- where the text holds one of some words: passing troubles say "connection", lasting ones never do.
create or replace function persona.bridge(command text, args text[] default '{}') returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_sqlstate text;
  v_message text;
begin
  return persona._bridge_call(bridge.command, coalesce(bridge.args, '{}'));
exception when others then
  get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
  return jsonb_build_object('error', case
    when v_sqlstate = 'PJ404' then 'Job not found'
    when v_sqlstate in ('40001', '40P01', '55P03') or left(v_sqlstate, 2) in ('08', '53', '57')
      then 'the database is busy, the connection may be tried again: ' || v_message
    else persona._bridge_text(v_message)
  end);
end $$;
comment on function persona.bridge(text, text[]) is
  'Client API. The commands of the first system''s bridge.py, with its arguments and its answers; an error is {"error": text} and nothing else. Jobs that it starts are driven by the caller, not by a runner: no runner ever claims them, and a lost one ends in failed.';
