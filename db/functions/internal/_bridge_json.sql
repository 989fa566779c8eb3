-- An argument that is JSON. Halves of surrogate pairs and escaped NULs, which a program's output may hold and which
-- no text in the database can, become the replacement character.
create or replace function persona._bridge_json(p_name text, p_text text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_text text := p_text;
begin
  if coalesce(btrim(v_text), '') in ('', '-') then
    return null;
  end if;
  begin
    return v_text::jsonb;
  exception when data_exception then
    null;  -- once more below, scrubbed
  end;
  -- An even number of backslashes before it: the escape is one.
  v_text := regexp_replace(v_text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'gi');
  v_text := regexp_replace(v_text, '(?<!\\)((?:\\\\)*)\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})', '\1\\ufffd', 'gi');
  v_text := regexp_replace(v_text, '(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}', '\\ufffd', 'gi');
  return v_text::jsonb;
exception when data_exception or statement_too_complex then
  perform persona._invalid(p_name, left(p_text, 100), 'valid JSON is needed');
  return null;
end $$;
comment on function persona._bridge_json(text, text) is 'Internal. An argument of the bridge that is JSON; null where it is empty. PJ422.';
