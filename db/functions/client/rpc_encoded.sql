-- rpc for a client that can pass only plain text safely: a shell script with psql. The bytes come as base64 or hex,
-- so that no byte of them means anything to psql or to SQL, and are checked here.
create or replace function persona.rpc_encoded(command text, body text default '', encoding text default 'base64')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_text text;
  v_body jsonb;
  v_message text;
  v_detail text;
begin
  begin
    v_text := convert_from(decode(rpc_encoded.body, rpc_encoded.encoding), 'UTF8');
  exception when data_exception then
    return jsonb_build_object('ok', false, 'v', 1, 'error', persona._rpc_error(
      'PJ422', 'the body is not text in UTF-8, or has a NUL byte in it', '{"argument": "body"}', ''));
  end;
  begin
    -- Only a short text is looked through: trimming megabytes costs as much as reading them as JSON.
    if octet_length(v_text) < 100 and btrim(v_text, E' \t\r\n') = '' then
      v_text := '{}';
    end if;
    v_body := v_text::jsonb;
  exception when data_exception or statement_too_complex or program_limit_exceeded then
    get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail;
    return jsonb_build_object('ok', false, 'v', 1, 'error', persona._rpc_error(
      'PJ422', left(format('the body is not valid JSON: %s', coalesce(nullif(v_detail, ''), v_message)), 500),
      '{"argument": "body"}', ''));
  end;
  return persona.rpc(rpc_encoded.command, v_body);
end $$;
comment on function persona.rpc_encoded(text, text, text) is
  'Client API. rpc with the body as base64 or hex of its bytes, for bin/persona-rpc: no byte of a value ever becomes SQL text. Empty: {}.';
