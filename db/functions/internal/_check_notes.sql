-- The rules for what a scanner hands over.
create or replace function persona._check_notes(p_vault text, p_notes jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_bad record;
begin
  if coalesce(length(p_vault), 0) not between 1 and 200 then
    perform persona._invalid('vault', p_vault, 'the name of a vault, 1 to 200 characters, is needed');
  elsif p_notes is null or jsonb_typeof(p_notes) <> 'array' then
    perform persona._invalid('notes', left(p_notes::text, 200), 'a JSON array of objects is needed');
  end if;
  begin
    select d.* into v_bad
    from jsonb_to_recordset(p_notes) as d (path text, note text, sha256 text, markers jsonb)
    where coalesce(d.path, '') = '' or coalesce(d.sha256, '') !~ '^[0-9a-f]{64}$'
      or jsonb_typeof(coalesce(d.markers, '[]')) <> 'array'
    limit 1;
    if found then
      perform persona._invalid('notes', left(to_jsonb(v_bad)::text, 200),
        'each needs path, sha256 and an array of markers');
    end if;
    select coalesce(d.note, d.path) as note into v_bad
    from jsonb_to_recordset(p_notes) as d (path text, note text) group by 1 having count(*) > 1 limit 1;
    if found then
      perform persona._invalid('notes', v_bad.note, 'each note comes once in a scan');
    end if;
    select i.path, i.line, i.kind, left(i.question, 50) as text into v_bad
    from persona._note_items(p_notes) as i
    where coalesce(i.kind, '') not in ('?', 'Q', 'A', 'CB?', 'M') or coalesce(i.line, 0) < 1
      or coalesce(length(btrim(i.question)), 0) not between 1 and 10000
    limit 1;
    if found then
      perform persona._invalid('notes', to_jsonb(v_bad)::text,
        'each marker needs kind (?, Q, A, CB? or M), text of 1 to 10000 characters and line');
    end if;
  exception when data_exception or invalid_parameter_value then
    perform persona._invalid('notes', left(p_notes::text, 200), sqlerrm);
  end;
end $$;
comment on function persona._check_notes(text, jsonb) is 'Internal. Checks the arguments of intake_notes. PJ422.';
