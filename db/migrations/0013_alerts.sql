-- 0013, expand: alerts are delivered by jobs of an agent of their own, as rules say.
-- Online: functions that predate it insert alerts without the new columns and get their defaults.
alter table persona.alerts add column detail jsonb not null default '{}';
comment on column persona.alerts.detail is 'What rules look at: agent, job_type, failure_kind, is_exhausted, percent, seconds, ...';
alter table persona.alerts add column dedupe_key text;
comment on column persona.alerts.dedupe_key is 'One alert for each; null: always a new one.';
create unique index alerts_dedupe_idx on persona.alerts (dedupe_key) where dedupe_key is not null;

alter table persona.alert_rules add column firing_since timestamptz;
comment on column persona.alert_rules.firing_since is
  'Since when what it watches is so (queue_age); it alerts once, until that has changed.';
comment on column persona.alert_rules.kind is
  'What it watches: job_failed, job_hung, gate_closed, budget, queue_age, schedule, test, or * for everything.';
comment on column persona.alert_rules.condition is
  'Narrower conditions on alerts.detail: a number is the least value, an array lists what it may be, else it is equal. {"failure_kind": ["auth", "billing"]}, {"is_exhausted": true}, {"percent": 80}, {"seconds": 3600}.';
comment on column persona.alert_rules.delivery is
  'Where to: {"to": "webhook" | "slack" | "discord" | "mail" | "command"}; with url_from the name of a variable ALERT_... of the runner, with argv the command. Addresses and passwords are never in here.';

-- provider alert: the runner hands it the variables that begin with ALERT_, and to nobody else.
insert into persona.agents (
  name, description, provider, argv, stdin_template, timeout, max_attempts, max_concurrent, admin_only)
values (
  'alert', 'Delivers alerts. Its own jobs raise none.', 'alert', '{"{python}",-m,persona_pg.alerting}', '{payload}',
  '120 s', 8, 2, true)
on conflict do nothing;
insert into persona.job_types (name, description, default_agent) values
  ('alert', 'Delivery of alerts.', 'alert')
on conflict do nothing;
