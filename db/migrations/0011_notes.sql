-- 0011, expand: what was asked in daily notes, once and for all; where answers go; which heading belongs to whom.
-- Online: a new table and new settings, which nothing before it looks at.
create table persona.note_markers (
  vault text not null,
  note text not null,
  marker text not null,
  ordinal integer not null,
  kind text not null,
  path text not null,
  line integer not null,
  is_answered boolean not null default false,
  job_id uuid,
  seen_by text[] not null default '{}',
  first_seen_at timestamptz not null default now(),
  vanished_at timestamptz,
  answer_host text,
  answer_taken_at timestamptz,
  answer_path text,
  answered_at timestamptz,
  linked_at timestamptz,
  primary key (vault, note, marker, ordinal)
);
create index note_markers_job_idx on persona.note_markers (job_id) where job_id is not null;
create index note_markers_open_idx on persona.note_markers (vault, job_id)
  where job_id is not null and answer_path is null;
comment on table persona.note_markers is 'Ledger of marked lines of daily notes: a line that is in here never makes a job again, also when its job has ended or is deleted. Hashes only, never a text.';
comment on column persona.note_markers.vault is 'Name of the vault.';
comment on column persona.note_markers.note is 'Which note: its date, so that another folder or file name for daily notes asks nothing twice.';
comment on column persona.note_markers.marker is 'SHA-256 of kind and text.';
comment on column persona.note_markers.ordinal is 'Counts the lines of the same marker in one note, from 1; answered ones come first.';
comment on column persona.note_markers.kind is '? research, Q deferred, A agent task, CB? code, M meeting.';
comment on column persona.note_markers.path is 'Path of the note inside the vault, as last seen.';
comment on column persona.note_markers.line is 'Line in the note as last seen, counted from 1.';
comment on column persona.note_markers.is_answered is 'True: struck through when last seen.';
comment on column persona.note_markers.job_id is 'Job made from it, which may have been cleaned up since; null: it was answered when first seen.';
comment on column persona.note_markers.seen_by is 'Machines whose copy of the note has held it: only they can tell that it was edited away.';
comment on column persona.note_markers.first_seen_at is 'When it came in.';
comment on column persona.note_markers.vanished_at is 'Since when it is no longer in the note; null: it is there.';
comment on column persona.note_markers.answer_host is 'Machine that writes the answer into its vault.';
comment on column persona.note_markers.answer_taken_at is 'When that machine took it on.';
comment on column persona.note_markers.answer_path is 'Note with the answer, inside the vault; it is written once.';
comment on column persona.note_markers.answered_at is 'When the answer was written.';
comment on column persona.note_markers.linked_at is 'When the marked line was linked to the answer.';

comment on column persona.daily_note_state.markers is 'The marked lines it held: kind, hash, ordinal, line and job of each.';

insert into persona.settings (name, value, description) values
  ('note_routes', '{}', 'Which business a marked line belongs to: an object of the first word of the heading above it (lower case, without emoji) and the business.'),
  ('note_agents', '{"CB?": "engineer"}', 'Who does what a marked line asks: an object of ?, Q, A, CB? or M and an agent; what is missing goes to the default agent of the job type.'),
  ('note_code_paths', '{}', 'Code that questions marked [CB?] may be asked in: an object of a folder and the agent whose working directory is that folder. Questions on other paths only name them.'),
  ('note_answer_folder', '"Resources/General/Embeds"', 'Folder of the vault for notes with answers.'),
  ('note_meeting_folder', '"Meetings"', 'Folder of the vault for notes extracted from meetings.'),
  ('note_write_back', 'false', 'True: a marked line is struck through and linked to its answer.');
