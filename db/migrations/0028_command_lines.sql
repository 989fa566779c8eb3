-- 0028, expand: the command line of an execution, as its runner started it.
-- Online: nullable columns. A runner of an older version tells none.
alter table persona.job_leases add column argv text[];
comment on column persona.job_leases.argv is
  'Command line as it was started, told with a heartbeat; long arguments are cut, secrets masked. Null: not told yet.';
alter table persona.job_attempts add column argv text[];
comment on column persona.job_attempts.argv is
  'Command line as it was started; long arguments are cut, secrets masked. Null: nothing was started, or the runner did not tell.';
