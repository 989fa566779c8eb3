-- A line that is struck through or gone is left alone; so is one that for a week has not been found.
create or replace function persona.note_links(vault text, write_back boolean default null)
returns table (job_id uuid, kind text, path text, line integer, marker text, answer_path text)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select m.job_id, m.kind, m.path, m.line, m.marker, m.answer_path
  from persona.note_markers as m
  where m.vault = note_links.vault and m.linked_at is null and m.answered_at > now() - interval '7 days'
    and not m.is_answered and m.vanished_at is null
    and coalesce(note_links.write_back, persona._setting('note_write_back')::boolean)
  order by m.answered_at;
$$;
comment on function persona.note_links(text, boolean) is
  'Client API. Marked lines whose answers are written and that are not linked to them yet; none unless write_back, by default the setting note_write_back, is true.';
