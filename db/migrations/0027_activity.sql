-- 0027, expand: what has happened, summed up in narrow rows, so that a picture of a week is no read of the history, and
-- the number of jobs, so that a count of them is none.
-- Online: new tables, constant defaults. Counting begins here; the tick sums up what was before, an hour at a time
-- (_sum_past), and until it is there it is read from the history, as before.
--
-- No tick, and so no cleanup, comes in between: jobs that are deleted before the trigger is there would be counted.
select pg_advisory_xact_lock(hashtext('persona.tick'), 0);
create table persona.activity (
  at timestamptz primary key,
  created bigint not null,
  came bigint not null,
  completed bigint not null,
  failed bigint not null,
  otherwise bigint not null
);
comment on table persona.activity is
  'What came and what ended in each minute of the last days, up to activity_cursor. Written by the tick, read by get_throughput.';
comment on column persona.activity.at is 'Start of the minute.';
comment on column persona.activity.created is 'Jobs that were created.';
comment on column persona.activity.came is 'By how many jobs the queue has grown.';
comment on column persona.activity.completed is 'Executions that completed.';
comment on column persona.activity.failed is 'Executions that failed, were stopped for a timeout or lost their runner, and jobs that failed without one.';
comment on column persona.activity.otherwise is 'Executions that were cancelled, held, given back or refused by a provider.';

create table persona.agent_hours (
  at timestamptz not null,
  agent text not null,
  completed bigint not null,
  failed bigint not null,
  primary key (at, agent)
);
comment on table persona.agent_hours is
  'Jobs that ended in each hour of the last days, by agent, up to activity_cursor. Written by the tick, read by list_agents.';
comment on column persona.agent_hours.at is 'Start of the hour.';
comment on column persona.agent_hours.agent is 'jobs.agent.';
comment on column persona.agent_hours.completed is 'Jobs that completed.';
comment on column persona.agent_hours.failed is 'Jobs that failed.';

create table persona.activity_times (
  at timestamptz not null,
  kind text not null constraint activity_times_kind_known check (kind in ('ran', 'waited')),
  job_type text not null,
  bin smallint not null,
  executions bigint not null,
  longest double precision not null,
  primary key (kind, at, job_type, bin)
);
comment on table persona.activity_times is
  'How long executions ran, by the hour of their end and their job type, and how long they had waited, by the quarter of an hour of their start. Written by the tick, read by get_durations and get_waits.';
comment on column persona.activity_times.at is 'Start of the hour, or of the quarter.';
comment on column persona.activity_times.kind is 'ran: counted executions; waited: all that have ended.';
comment on column persona.activity_times.job_type is 'jobs.job_type; of waits empty.';
comment on column persona.activity_times.bin is 'From 1.1 to the power of this, in seconds, until a tenth more.';
comment on column persona.activity_times.executions is 'So many took that long.';
comment on column persona.activity_times.longest is 'Seconds of the longest one of them.';

create table persona.queue_depths (
  at timestamptz primary key,
  pending bigint not null
);
comment on table persona.queue_depths is 'How many jobs were pending when a quarter of an hour began, as far as a tick came soon after.';
comment on column persona.queue_depths.at is 'Start of the quarter.';
comment on column persona.queue_depths.pending is 'Pending jobs.';

create table persona.cost_days (
  day date not null,
  agent text not null,
  job_type text not null,
  business text not null,
  model text not null,
  booked_usd numeric not null,
  executions bigint not null,
  primary key (day, agent, job_type, business, model)
);
comment on table persona.cost_days is
  'Money booked by UTC day, agent, job type, business and model, but for what is still in cost_fresh: what get_costs adds up.';
comment on column persona.cost_days.day is 'UTC day of the booking.';
comment on column persona.cost_days.agent is 'Its agent.';
comment on column persona.cost_days.job_type is 'Its job type; empty: not known.';
comment on column persona.cost_days.business is 'Its instance; empty: none.';
comment on column persona.cost_days.model is 'Model that answered; empty: not known.';
comment on column persona.cost_days.booked_usd is 'US dollars.';
comment on column persona.cost_days.executions is 'Bookings.';

-- Days that are over are read before bookings have to wait for this transaction; the last two, at the end, while they do.
insert into persona.cost_days (day, agent, job_type, business, model, booked_usd, executions)
select (c.at at time zone 'UTC')::date, c.agent, coalesce(c.job_type, ''), coalesce(c.business, ''),
  coalesce(c.model, ''), sum(c.amount_usd), count(*)
from persona.cost_ledger as c
where c.kind = 'booked' and c.at < (date_trunc('day', now() at time zone 'UTC') - interval '1 day') at time zone 'UTC'
group by 1, 2, 3, 4, 5;

create table persona.activity_cursor (
  is_only boolean primary key default true constraint activity_cursor_one_row check (is_only),
  counted_xid bigint not null,
  first_xid bigint not null,
  since timestamptz not null,
  restored_at timestamptz not null default '-infinity',
  restored_seq bigint not null default 0,
  jobs bigint
);
comment on table persona.activity_cursor is 'How far activity, activity_times and the number of jobs are counted.';
comment on column persona.activity_cursor.is_only is 'Always true: there is one row.';
comment on column persona.activity_cursor.counted_xid is 'What was recorded in transactions below this is counted.';
comment on column persona.activity_cursor.first_xid is 'Where the counting began.';
comment on column persona.activity_cursor.since is 'What was recorded before that is counted from this time on; the tick goes on into the past.';
comment on column persona.activity_cursor.restored_at is 'What is older came with a restore: its transactions were another server''s.';
comment on column persona.activity_cursor.restored_seq is 'Jobs up to this one (jobs.seq) came with a restore.';
comment on column persona.activity_cursor.jobs is
  'So many jobs are stored that were created in transactions below counted_xid, but for what job_removals says; null: not known after a restore (rebuild_queue counts them).';
insert into persona.activity_cursor (counted_xid, first_xid, since, jobs)
select x.xid, x.xid, date_bin('15 minutes', now(), '2000-01-01 00:00Z') + interval '15 minutes',
  (select count(*) from persona.jobs) - (select count(*) from persona.jobs as j where j.created_xid >= x.xid)
from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint) as x (xid);

create table persona.job_removals (
  id bigint primary key generated always as identity,
  created_xid bigint not null,
  jobs bigint not null
);
comment on table persona.job_removals is
  'Jobs that were deleted and are still in activity_cursor.jobs, or were not counted there yet. The tick takes them off.';
comment on column persona.job_removals.id is 'Key of the row.';
comment on column persona.job_removals.created_xid is 'jobs.created_xid of the deleted ones; 0: from before a restore.';
comment on column persona.job_removals.jobs is 'So many.';

lock table persona.cost_fresh in access exclusive mode;
insert into persona.cost_totals as t (day, agent, business, booked_usd)
select f.day, f.agent, f.business, sum(f.booked_usd) from persona.cost_fresh as f group by 1, 2, 3
on conflict (day, agent, business) do update set booked_usd = t.booked_usd + excluded.booked_usd;
delete from persona.cost_fresh;
alter table persona.cost_fresh add column job_type text not null default '', add column model text not null default '';
comment on column persona.cost_fresh.job_type is 'Its job type; empty: not known.';
comment on column persona.cost_fresh.model is 'Model that answered; empty: not known.';
insert into persona.cost_days (day, agent, job_type, business, model, booked_usd, executions)
select (c.at at time zone 'UTC')::date, c.agent, coalesce(c.job_type, ''), coalesce(c.business, ''),
  coalesce(c.model, ''), sum(c.amount_usd), count(*)
from persona.cost_ledger as c
where c.kind = 'booked' and c.at >= (date_trunc('day', now() at time zone 'UTC') - interval '1 day') at time zone 'UTC'
group by 1, 2, 3, 4, 5;
