-- 0005, expand: output and messages of jobs, one partition a day so that retention drops a partition.
-- The day is that of the execution's claim (UTC), which its lease number tells; a line's key is what its
-- runner gave it, so that a line sent twice is stored once. No foreign key: a lock and a check a line.
create table persona.job_logs (
  day date not null,
  job_id uuid not null,
  lease bigint not null,
  seq bigint not null,
  at timestamptz not null default now(),
  stream text not null default 'system'
    constraint job_logs_stream_known check (stream in ('stdout', 'stderr', 'system')),
  level text not null default 'info'
    constraint job_logs_level_known check (level in ('debug', 'info', 'warn', 'error')),
  message text not null,
  metadata jsonb,
  primary key (day, job_id, lease, seq)
) partition by range (day);
create table persona.job_logs_default partition of persona.job_logs default;
comment on table persona.job_logs is 'Lines printed by jobs and messages about them.';
comment on column persona.job_logs.day is 'UTC day of the execution''s claim; of the message itself where lease is 0.';
comment on column persona.job_logs.job_id is 'The job.';
comment on column persona.job_logs.lease is 'Fencing token of the execution; 0: said from outside of any.';
comment on column persona.job_logs.seq is 'Order within the execution.';
comment on column persona.job_logs.at is 'When the runner read the line, by the runner''s clock; server time where it gave none.';
comment on column persona.job_logs.stream is 'stdout, stderr, or system for messages about the job.';
comment on column persona.job_logs.level is 'debug, info, warn or error.';
comment on column persona.job_logs.message is 'The line without its line end; a very long one comes in pieces.';
comment on column persona.job_logs.metadata is 'Details; {"part": true} where the line goes on in the next piece.';
comment on table persona.job_logs_default is 'Catches lines of days that have no partition, so that an append never fails for want of one.';
