-- 0012, expand: people in the loop, and jobs that wait for what they delegated.
-- Online: runners and functions that predate it insert leases and jobs without the new columns and get their defaults.
alter table persona.job_leases add column is_waiting boolean not null default false;
comment on column persona.job_leases.is_waiting is
  'True: waits for jobs that it delegated and has lent its slot to others; it does not count against a limit.';
alter table persona.job_leases add column wants_slot boolean not null default false;
comment on column persona.job_leases.wants_slot is
  'True: what it waited for has ended, and it goes on as soon as there is a slot; a claim leaves that one to it.';

alter table persona.jobs add column on_failure text;
comment on column persona.jobs.on_failure is
  'What the failure of this delegated job does: null or ignore nothing, fail: the job above it fails too, cancel_siblings: the other jobs delegated beside it are cancelled.';

alter table persona.agents add column requires_approval boolean not null default false;
comment on column persona.agents.requires_approval is 'True: its jobs are held until a person releases them.';
alter table persona.agents add column resume_argv text[];
comment on column persona.agents.resume_argv is
  'Program and arguments instead of argv where a conversation is resumed; {session_id} is its id. Null: every attempt begins anew.';
alter table persona.job_types add column requires_approval boolean not null default false;
comment on column persona.job_types.requires_approval is 'True: jobs of this type are held until a person releases them.';

-- Questions and approvals are one thing: something waits for a person, and who decided what, and when, is kept.
create table persona.questions (
  id bigint primary key generated always as identity,
  job_id uuid not null references persona.jobs (id) on delete cascade,
  kind text not null constraint questions_kind_known check (kind in ('question', 'approval')),
  lease bigint,
  text text not null,
  asked_at timestamptz not null default now(),
  answer text,
  answered_at timestamptz,
  answered_by text,
  constraint questions_answered_as_a_whole check ((answered_at is null) = (answer is null))
);
create index questions_job_idx on persona.questions (job_id);
create unique index questions_lease_idx on persona.questions (job_id, lease) where lease is not null;
create index questions_open_idx on persona.questions (id) where answered_at is null;
comment on table persona.questions is 'What people were asked and what they decided: questions of running jobs, and approvals before the start.';
comment on column persona.questions.id is 'Order of asking.';
comment on column persona.questions.job_id is 'The job that waits for it.';
comment on column persona.questions.kind is 'question: asked by the job itself. approval: needed before its start.';
comment on column persona.questions.lease is 'The execution that asked; null for an approval.';
comment on column persona.questions.text is 'The question.';
comment on column persona.questions.asked_at is 'When it was asked.';
comment on column persona.questions.answer is 'The answer; approved for an approval.';
comment on column persona.questions.answered_at is 'When it was answered; null: open.';
comment on column persona.questions.answered_by is 'Database role of the person who answered.';

insert into persona.settings (name, value, description) values
  ('max_children', '50', 'So many jobs may one job delegate.');

-- Its signature grows by defaulted arguments: a replaced function would be an overload.
drop function if exists persona.create_child_job(
  uuid, uuid, bigint, text, jsonb, text, uuid, text, integer, text[], interval, integer);

-- The agents of the seed resume their conversations, as long as they are what the seed made them. Claude Code is told
-- the id of a new conversation, so that it is known also where the program was stopped before it could print one.
update persona.agents as a
set resume_argv = a.argv || array['--resume', '{session_id}'],
    argv = a.argv || array['--session-id', '{new_session_id}']
where a.keeps_conversation and a.argv[1:4] = array['claude', '-p', '--output-format', 'json']
  and not a.argv && array['--session-id', '--resume', '-r', '--continue', '-c'];
update persona.agents as a
set resume_argv = array['gemini', '-r', '{session_id}'] || a.argv[2:]
where a.keeps_conversation and a.argv[1:2] = array['gemini', '-m'] and not a.argv && array['-r', '--resume'];
