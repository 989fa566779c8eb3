create or replace view persona.open_questions as
select q.id, q.job_id, j.short_id, q.kind, q.text, q.asked_at, j.agent, j.job_type, j.business,
  persona._task_preview(j.payload) as task_preview
from persona.questions as q
join persona.jobs as j on j.id = q.job_id
where q.answered_at is null and j.status = 'held';
comment on view persona.open_questions is 'What waits for a person now: questions of jobs, and jobs that need approval.';
comment on column persona.open_questions.id is 'Order of asking.';
comment on column persona.open_questions.job_id is 'The job that waits for it.';
comment on column persona.open_questions.short_id is 'Its short id, for answer_job and release_job.';
comment on column persona.open_questions.kind is 'question: answer_job goes on with an answer. approval: release_job approves, cancel_job does not.';
comment on column persona.open_questions.text is 'The question.';
comment on column persona.open_questions.asked_at is 'When it was asked.';
comment on column persona.open_questions.agent is 'Agent of the job.';
comment on column persona.open_questions.job_type is 'Type of the job.';
comment on column persona.open_questions.business is 'Instance (tenant) it belongs to.';
comment on column persona.open_questions.task_preview is 'The task in up to 80 characters.';
