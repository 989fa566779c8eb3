-- 0010, expand: the number of a runner's connection, and the timeline of the server.
-- Online: runners that predate it name no connection and are served as before.
alter table persona.runners add column connection integer not null default 0;
comment on column persona.runners.connection is
  'Number of its connection, raised when it opens another one: what was sent over an earlier one comes too late.';

-- Their signatures grow by a defaulted argument: a replaced function would be an overload.
drop function if exists persona.claim_jobs(uuid, integer);
drop function if exists persona.reconcile(uuid, jsonb);

create table persona.server_timeline (
  is_only boolean primary key default true constraint server_timeline_one_row check (is_only),
  timeline text not null,
  changed_at timestamptz not null default now(),
  resume_at timestamptz
);
comment on table persona.server_timeline is
  'One row: the timeline of the server when it last handed out jobs. Another one means that a standby was promoted or a backup restored, and that commits may be lost.';
comment on column persona.server_timeline.is_only is 'Always true: there is one row.';
comment on column persona.server_timeline.timeline is 'The first 8 digits of the name of its WAL file.';
comment on column persona.server_timeline.changed_at is 'When it was first seen.';
comment on column persona.server_timeline.resume_at is 'No job is handed out before.';
insert into persona.server_timeline (timeline) values (substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8));

insert into persona.settings (name, value, description) values
  ('failover_pause', 'true',
   'After a failover or a restored backup no job is handed out for one lease: a claim whose commit was lost may still be at work.');
