-- 0007, expand: schedules, events, alerts, state of daily notes.
create table persona.schedules (
  name text primary key,
  spec text not null,
  time_zone text not null default 'UTC',
  job jsonb not null constraint schedules_job_is_object check (jsonb_typeof(job) = 'object'),
  catch_up text not null default 'skip' constraint schedules_catch_up_known check (catch_up in ('skip', 'one', 'all')),
  overlap text not null default 'allow' constraint schedules_overlap_known check (overlap in ('allow', 'skip')),
  is_paused boolean not null default false,
  next_due_at timestamptz,
  last_due_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table persona.schedules is 'Jobs to be created at given times.';
comment on column persona.schedules.name is 'Key.';
comment on column persona.schedules.spec is 'Cron expression, @every INTERVAL, or @at TIME.';
comment on column persona.schedules.time_zone is 'Zone in which a cron expression is read.';
comment on column persona.schedules.job is 'Arguments of create_job as a JSON object.';
comment on column persona.schedules.catch_up is 'What happens to due times that passed while no runner was there: skip, one, all.';
comment on column persona.schedules.overlap is 'skip: no new job while the last one is unfinished.';
comment on column persona.schedules.is_paused is 'True: creates nothing.';
comment on column persona.schedules.next_due_at is 'Next due time.';
comment on column persona.schedules.last_due_at is 'Due time of the last job created.';
comment on column persona.schedules.created_at is 'When it was made.';
comment on column persona.schedules.updated_at is 'Last change.';

create table persona.events (
  id bigint generated always as identity primary key,
  event_type text not null,
  job_id uuid,
  source text,
  trace_id text,
  data jsonb not null default '{}',
  created_at timestamptz not null default now(),
  visible_at timestamptz not null default now(),
  read_count integer not null default 0
);
create index events_visible_idx on persona.events (visible_at, id);
create index events_job_idx on persona.events (job_id, id) where job_id is not null;
comment on table persona.events is 'Events published by callers, to be read and deleted by others.';
comment on column persona.events.id is 'Order of publishing; the message id of readers.';
comment on column persona.events.event_type is 'Such as job.progress.';
comment on column persona.events.job_id is 'Job it is about.';
comment on column persona.events.source is 'Who published it.';
comment on column persona.events.trace_id is 'Trace of the caller.';
comment on column persona.events.data is 'What else it says.';
comment on column persona.events.created_at is 'When it was published.';
comment on column persona.events.visible_at is 'Readers see it from then on; a read moves it forward.';
comment on column persona.events.read_count is 'So often it was read.';

create table persona.alert_rules (
  name text primary key,
  kind text not null,
  condition jsonb not null default '{}',
  delivery jsonb not null default '{}',
  is_active boolean not null default true
);
comment on table persona.alert_rules is 'What raises an alert and where it is sent.';
comment on column persona.alert_rules.name is 'Key.';
comment on column persona.alert_rules.kind is 'What it watches: job_failed, job_hung, gate_closed, budget, queue_age.';
comment on column persona.alert_rules.condition is 'Narrower conditions, such as {"failure_kind": "auth"}.';
comment on column persona.alert_rules.delivery is 'Where to: webhook, mail or command.';
comment on column persona.alert_rules.is_active is 'False: raises nothing.';

create table persona.alerts (
  id bigint generated always as identity primary key,
  kind text not null,
  job_id uuid,
  message text not null,
  created_at timestamptz not null default now(),
  seen_at timestamptz
);
create index alerts_unseen_idx on persona.alerts (id) where seen_at is null;
comment on table persona.alerts is 'What somebody should look at: a failure is never silent.';
comment on column persona.alerts.id is 'Order.';
comment on column persona.alerts.kind is 'job_failed, ...';
comment on column persona.alerts.job_id is 'Job it is about.';
comment on column persona.alerts.message is 'One line for people.';
comment on column persona.alerts.created_at is 'When it was raised.';
comment on column persona.alerts.seen_at is 'When somebody marked it as seen.';

create table persona.daily_note_state (
  vault text not null,
  path text not null,
  sha256 text not null,
  scanned_at timestamptz not null default now(),
  markers jsonb not null default '[]',
  primary key (vault, path)
);
comment on table persona.daily_note_state is 'What was found in daily notes: hashes and markers, never the text of a note.';
comment on column persona.daily_note_state.vault is 'Name of the vault.';
comment on column persona.daily_note_state.path is 'Path of the note inside the vault.';
comment on column persona.daily_note_state.sha256 is 'Hash of the note when it was scanned.';
comment on column persona.daily_note_state.scanned_at is 'When it was scanned.';
comment on column persona.daily_note_state.markers is 'Hashes of the marked lines and the jobs made from them.';
