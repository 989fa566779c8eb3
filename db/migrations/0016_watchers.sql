-- 0016, expand: who watches for changes, and the place of each event in a feed.
-- Online: the new columns have constant defaults for the rows that exist, so no table is rewritten.
--
-- Unlogged: a watcher registers again whenever its connection was lost, as it is by a crash of the server.
create unlogged table persona.watchers (
  seq bigint primary key generated always as identity,
  id uuid not null,
  job_id uuid,
  wants_logs boolean not null default false,
  expires_at timestamptz not null
);
create index watchers_job_idx on persona.watchers (job_id);
create index watchers_id_idx on persona.watchers (id);
alter table persona.watchers set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
comment on table persona.watchers is
  'Programs that LISTEN for changes right now. While nobody is here, no change sends a notification.';
comment on column persona.watchers.seq is 'Key of the row.';
comment on column persona.watchers.id is 'Made by the watcher; several rows where it watches several jobs.';
comment on column persona.watchers.job_id is 'Only this job; null: everything.';
comment on column persona.watchers.wants_logs is 'Also new log lines of that job.';
comment on column persona.watchers.expires_at is 'It must have registered again by then.';

-- The transaction of each event: its place in the feed. Time and identity are given when a transaction begins or
-- inserts, not when it commits, so that a reader who remembers the last one would skip what commits late; a
-- transaction id can be compared with the oldest one that is still under way (list_events).
alter table persona.jobs add column created_xid bigint not null default 0;
alter table persona.jobs alter column created_xid set default pg_current_xact_id()::text::bigint;
alter table persona.jobs add column ended_xid bigint;
alter table persona.job_leases add column claimed_xid bigint not null default 0;
alter table persona.job_leases alter column claimed_xid set default pg_current_xact_id()::text::bigint;
alter table persona.job_attempts add column started_xid bigint not null default 0;
alter table persona.job_attempts add column ended_xid bigint not null default 0;
alter table persona.job_attempts alter column ended_xid set default pg_current_xact_id()::text::bigint;
alter table persona.events add column created_xid bigint not null default 0;
alter table persona.events alter column created_xid set default pg_current_xact_id()::text::bigint;
comment on column persona.jobs.created_xid is 'Transaction that created it; 0: before events had a place.';
comment on column persona.jobs.ended_xid is 'Transaction that ended it without an execution; kept by the trigger jobs_guard.';
comment on column persona.job_leases.claimed_xid is 'Transaction of the claim.';
comment on column persona.job_attempts.started_xid is 'Transaction of the claim.';
comment on column persona.job_attempts.ended_xid is 'Transaction that ended it.';
comment on column persona.events.created_xid is 'Transaction that published it.';

-- Rows come in the order of these columns, so a summary of each few pages finds them, at no cost for a writer.
create index jobs_arrival_idx on persona.jobs using brin (created_xid, created_at) with (pages_per_range = 32);
create index job_attempts_arrival_idx on persona.job_attempts
  using brin (ended_xid, started_xid, ended_at) with (pages_per_range = 32);
create index jobs_ended_xid_idx on persona.jobs (ended_xid) where ended_xid is not null;
create index events_created_xid_idx on persona.events (created_xid);

-- Room for a new version of each row in its page, as before: the rows have become wider.
alter table persona.job_leases set (fillfactor = 45);
