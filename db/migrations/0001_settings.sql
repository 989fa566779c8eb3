-- 0001, expand: settings of the queue itself (not of a runner), readable by all, changed by admins.
create table persona.settings (
  name text primary key,
  value jsonb not null,
  description text not null
);
comment on table persona.settings is 'Settings that hold for the whole queue; a runner''s own are in its environment.';
comment on column persona.settings.name is 'Name, snake_case.';
comment on column persona.settings.value is 'Value as JSON; times are in seconds.';
comment on column persona.settings.description is 'What it does and its unit.';

insert into persona.settings (name, value, description) values
  ('retry_base_seconds', '10', 'Backoff before the second attempt; it doubles with each further one.'),
  ('retry_cap_seconds', '3600', 'Longest backoff between two attempts.'),
  ('rescue_cap', '3', 'So many times may a job lose its runner before it ends in failed.'),
  ('rate_limit_wait_seconds', '300', 'Wait after a rate limit that came without a reset time.'),
  ('log_retention_days', '30', 'Days of job_logs to keep; whole partitions are dropped.'),
  ('runner_retention_days', '7', 'Days an ended runner stays in the list.'),
  ('max_depth', '5', 'Deepest level of delegation; a job without parent has depth 0.'),
  ('default_agent', 'null', 'Agent of jobs whose type names none.'),
  ('min_protocol', '1', 'Oldest runner protocol this schema serves.'),
  ('max_protocol', '1', 'Newest runner protocol this schema serves.');
