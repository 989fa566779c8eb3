create or replace function persona.record_note_answer(vault text, job_id uuid, answer_path text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
begin
  update persona.note_markers as m
  set answer_path = record_note_answer.answer_path, answered_at = now()
  where m.vault = record_note_answer.vault and m.job_id = record_note_answer.job_id and m.answer_path is null;
  return found;
end $$;
comment on function persona.record_note_answer(text, uuid, text) is
  'Client API. Remembers where the answer to a marked line was written; true for the first to say so.';
