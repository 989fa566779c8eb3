-- bridge for a shell script with psql: command and arguments, each followed by the byte 255 (which no UTF-8 text
-- holds), all of it as base64 or hex.
create or replace function persona.bridge_encoded(words text, number integer, encoding text default 'base64')
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_words text[];
begin
  begin
    -- LATIN1 maps each byte to one character and back, so the bytes can be cut as text.
    v_words := string_to_array(convert_from(decode(bridge_encoded.words, bridge_encoded.encoding), 'LATIN1'), chr(255));
    if cardinality(v_words) <> bridge_encoded.number + 1 then
      return jsonb_build_object('error', 'the arguments are not text in UTF-8');
    end if;
    v_words := array(
      select convert_from(convert_to(w.word, 'LATIN1'), 'UTF8')
      from unnest(v_words[:bridge_encoded.number]) with ordinality as w (word, n) order by w.n);
  exception when data_exception then
    return jsonb_build_object('error', 'the arguments are not text in UTF-8');
  end;
  return persona.bridge(v_words[1], v_words[2:]);
end $$;
comment on function persona.bridge_encoded(text, integer, text) is
  'Client API. bridge with command and arguments as base64 or hex, for bin/persona-bridge: no byte of a value ever becomes SQL text.';
