-- 0009, expand: jobs that a program outside drives through the bridge, and events that stay readable once consumed.
-- Online: what predates it inserts jobs and leases without the new columns and gets their defaults.
alter table persona.jobs add column is_external boolean not null default false;
comment on column persona.jobs.is_external is
  'True: a program outside starts and ends it through the bridge; no runner claims it, whatever its agent.';

alter table persona.job_leases add column is_external boolean not null default false;
comment on column persona.job_leases.is_external is
  'True: held by a program outside. Its loss ends the job, because a stranger''s process cannot be killed.';

-- What get_pending_jobs shows first, however long the queue of the runners is.
create index job_queue_external_idx on persona.job_queue (priority desc, run_at, seq) where waits_on = 'external';

alter table persona.events add column deleted_at timestamptz;
comment on column persona.events.deleted_at is 'When a reader was done with it; it stays in get_events until its retention ends.';
drop index persona.events_visible_idx;
create index events_visible_idx on persona.events (visible_at, id) where deleted_at is null;

insert into persona.settings (name, value, description) values
  ('bridge_agent_action', '"external"',
   'Who runs agent_action jobs created through the bridge: external (the program that created them) or runner.'),
  ('bridge_lease_seconds', '300', 'A job driven through the bridge counts as lost so long after its last heartbeat.'),
  ('event_retention_days', '30', 'Days a published event is kept.');

insert into persona.agents (name, description, role, argv, is_external) values
  ('calendar', 'Fetches meetings from the calendar; driven by the notes program through the bridge.', 'calendar',
   '{persona-bridge}', true)
on conflict (name) do nothing;
insert into persona.job_types (name, description, default_agent) values
  ('calendar_fetch', 'Fetches the meetings of a day.', 'calendar')
on conflict (name) do nothing;
