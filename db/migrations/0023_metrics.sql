-- 0023, expand: counters that only grow, for monitoring; finished jobs that the upkeep lets go of.
-- Online: new tables and a setting. Counting begins here; what has ended before is in the history.
create table persona.execution_totals (
  agent text not null,
  job_type text not null,
  outcome text not null,
  failure_kind text not null,
  executions bigint not null,
  seconds double precision not null,
  within bigint[] not null constraint execution_totals_within_bounds check (cardinality(within) = 8),
  primary key (agent, job_type, outcome, failure_kind)
);
comment on table persona.execution_totals is
  'How many executions have ended since the installation; the retention of jobs takes nothing away. Written by the tick, read by get_metrics.';
comment on column persona.execution_totals.agent is 'jobs.agent.';
comment on column persona.execution_totals.job_type is 'jobs.job_type where it is registered, else other.';
comment on column persona.execution_totals.outcome is 'job_attempts.outcome.';
comment on column persona.execution_totals.failure_kind is 'job_attempts.failure_kind; empty: none.';
comment on column persona.execution_totals.executions is 'So many.';
comment on column persona.execution_totals.seconds is 'So long, all together.';
comment on column persona.execution_totals.within is 'So many took at most 1, 5, 15, 60, 300, 900, 3600, 14400 seconds.';

create table persona.execution_cursor (
  is_only boolean primary key default true constraint execution_cursor_one_row check (is_only),
  counted_xid bigint not null
);
comment on table persona.execution_cursor is 'How far executions are counted.';
comment on column persona.execution_cursor.is_only is 'Always true: there is one row.';
comment on column persona.execution_cursor.counted_xid is 'What ended in transactions below this is in execution_totals.';
insert into persona.execution_cursor (counted_xid) values (pg_current_xact_id()::text::bigint);

insert into persona.settings (name, value, description) values
  ('job_retention_days', '0', 'Days a finished job is kept, with its attempts, by the upkeep of runners; 0: until somebody calls cleanup_old_jobs.');
