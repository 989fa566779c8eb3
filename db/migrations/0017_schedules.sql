-- 0017, expand: schedules: when they are due, what became of each due time.
-- Online: nothing that predates it creates or fires schedules.
alter table persona.schedules
  add column every interval constraint schedules_every_positive check (every >= interval '1 s'),
  add column anchor_at timestamptz not null default now(),
  add column jitter interval not null default '0' constraint schedules_jitter_positive check (jitter >= interval '0'),
  add column is_done boolean not null default false,
  add column problem text,
  drop constraint schedules_overlap_known,
  add constraint schedules_overlap_known check (overlap in ('allow', 'skip', 'replace'));
comment on column persona.schedules.every is 'Interval of @every; null for the others.';
comment on column persona.schedules.anchor_at is 'Due times after this one are still to come; @every counts from it.';
comment on column persona.schedules.jitter is 'Each job starts up to so much later, at random.';
comment on column persona.schedules.is_done is 'True: will never be due again.';
comment on column persona.schedules.problem is 'Why it was paused by itself: its expression cannot be read, or its job cannot be created.';
comment on column persona.schedules.overlap is
  'While the last job is unfinished. allow: one more. skip: none. replace: the last one is cancelled.';
comment on column persona.schedules.next_due_at is 'Next due time; null: the next runner computes it.';

create table persona.schedule_runs (
  schedule text not null references persona.schedules (name) on delete cascade,
  due_at timestamptz not null,
  job_id uuid,
  outcome text not null,
  late interval not null,
  created_at timestamptz not null default now(),
  primary key (schedule, due_at)
);
comment on table persona.schedule_runs is 'What became of each due time of a schedule; the job may be cleaned up long since.';
comment on column persona.schedule_runs.schedule is 'The schedule.';
comment on column persona.schedule_runs.due_at is 'The due time.';
comment on column persona.schedule_runs.job_id is 'The job that was created.';
comment on column persona.schedule_runs.outcome is 'created; late: created after the runners were back; missed: left out by catch_up; overlap: left out because the last job was unfinished; failed.';
comment on column persona.schedule_runs.late is 'How long after the due time this was decided.';
comment on column persona.schedule_runs.created_at is 'When it was decided.';

insert into persona.settings (name, value, description) values
  ('schedule_max_catch_up', '100', 'So many missed due times of a schedule at most are caught up with, the latest ones.'),
  ('schedule_grace_seconds', '120', 'A due time that is no older was not missed, only late.'),
  ('schedule_keep_runs', '1000', 'So many decisions of a schedule are kept in schedule_runs.');
