-- What was asked in daily notes and what became of it.
create or replace view persona.note_questions as
select m.vault, m.note, m.path, m.line, m.kind, m.job_id, coalesce(j.short_id, right(m.job_id::text, 8)) as short_id,
  case
    when m.job_id is null then 'answered'
    when j.id is null then 'cleaned up'
    else j.status
  end as status,
  j.job_type, j.agent, j.business, persona._task_preview(j.payload) as task_preview, m.is_answered,
  m.vanished_at is not null as is_gone, m.answer_path, m.answered_at, m.linked_at, m.first_seen_at
from persona.note_markers as m
left join persona.jobs as j on j.id = m.job_id;
comment on view persona.note_questions is 'Marked lines of daily notes with their jobs and answers.';
comment on column persona.note_questions.vault is 'Name of the vault.';
comment on column persona.note_questions.note is 'Date of the note.';
comment on column persona.note_questions.path is 'Path of the note inside the vault.';
comment on column persona.note_questions.line is 'Line as last seen.';
comment on column persona.note_questions.kind is '? research, Q deferred, A agent task, CB? code, M meeting.';
comment on column persona.note_questions.job_id is 'Job made from it.';
comment on column persona.note_questions.short_id is 'For people.';
comment on column persona.note_questions.status is 'Status of the job; answered: it needed none; cleaned up: the job was deleted.';
comment on column persona.note_questions.job_type is 'Type of the job.';
comment on column persona.note_questions.agent is 'Who does it.';
comment on column persona.note_questions.business is 'Instance it belongs to.';
comment on column persona.note_questions.task_preview is 'The question in up to 80 characters.';
comment on column persona.note_questions.is_answered is 'True: struck through when last seen.';
comment on column persona.note_questions.is_gone is 'True: no longer in the note.';
comment on column persona.note_questions.answer_path is 'Note with the answer.';
comment on column persona.note_questions.answered_at is 'When the answer was written.';
comment on column persona.note_questions.linked_at is 'When the line was linked to it.';
comment on column persona.note_questions.first_seen_at is 'When it came in.';
