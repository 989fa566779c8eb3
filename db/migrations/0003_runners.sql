-- 0003, expand: runners, and which of them are idle.
create table persona.runners (
  id uuid primary key,
  name text not null,
  hostname text not null,
  pid integer not null,
  pid_started text,
  boot_id text,
  machine_id text,
  pid_namespace text,
  version text,
  protocol integer not null,
  capacity integer not null constraint runners_capacity_positive check (capacity > 0),
  agents text[],
  lease interval not null constraint runners_lease_positive check (lease > interval '0'),
  may_take_over boolean not null default false,
  predecessor_id uuid,
  registered_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  drain_requested_at timestamptz,
  ended_at timestamptz,
  ended_reason text
);
create unique index runners_live_name_idx on persona.runners (name) where ended_at is null;
alter table persona.runners set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
comment on table persona.runners is 'One row a registration: a restarted runner gets a new row and a new id.';
comment on column persona.runners.id is 'Made at each registration; named in every runner-side call.';
comment on column persona.runners.name is 'Stable name; at most one live runner has it.';
comment on column persona.runners.hostname is 'Host name as the runner sees it.';
comment on column persona.runners.pid is 'Process id of the runner in its pid namespace.';
comment on column persona.runners.pid_started is 'Start time of that process as the kernel gives it, so that a reused pid is not mistaken for it.';
comment on column persona.runners.boot_id is 'Boot id of the kernel.';
comment on column persona.runners.machine_id is 'Machine id: the same host name is not the same machine.';
comment on column persona.runners.pid_namespace is 'Pid namespace: two containers share a boot id.';
comment on column persona.runners.version is 'Version of the package.';
comment on column persona.runners.protocol is 'Protocol of the runner functions it speaks.';
comment on column persona.runners.capacity is 'Jobs it runs at once.';
comment on column persona.runners.agents is 'Agents it serves; null: all.';
comment on column persona.runners.lease is 'Length of its leases (JOB_HUNG_TIMEOUT).';
comment on column persona.runners.may_take_over is 'It proved at registration that its predecessor of the same name is dead and was on this machine.';
comment on column persona.runners.predecessor_id is 'The registration that it took over, with proof that this very runner is dead.';
comment on column persona.runners.registered_at is 'When it registered.';
comment on column persona.runners.last_seen_at is 'Server time of its last sign of life.';
comment on column persona.runners.drain_requested_at is 'When it was asked to take no more jobs.';
comment on column persona.runners.ended_at is 'When it left or was found gone; null while it lives.';
comment on column persona.runners.ended_reason is 'Why it ended: stopped, replaced, or lost.';

-- A table of its own: an idle mark comes and goes with each quiet moment, the runner's row should not.
create table persona.idle_runners (
  runner_id uuid primary key references persona.runners (id) on delete cascade,
  agents text[]
);
alter table persona.idle_runners set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
comment on table persona.idle_runners is 'Runners that found less work than they asked for. Creating a job sends a notification only when a fitting one is here, so that busy systems never take the notification lock.';
comment on column persona.idle_runners.runner_id is 'The runner.';
comment on column persona.idle_runners.agents is 'Agents it serves; null: all.';
