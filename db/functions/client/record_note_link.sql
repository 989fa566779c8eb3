create or replace function persona.record_note_link(vault text, job_id uuid) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
begin
  update persona.note_markers as m set linked_at = now()
  where m.vault = record_note_link.vault and m.job_id = record_note_link.job_id and m.linked_at is null;
  return found;
end $$;
comment on function persona.record_note_link(text, uuid) is
  'Client API. Remembers that a marked line was linked to its answer; true for the first to say so.';
