-- 0021, expand: budgets that are kept at claim, priorities that age, an end to waiting for a provider.
-- Online: nullable columns, and new indexes on narrow tables and on the ledger. What older functions book meanwhile is
-- in the ledger without its job type, and in no sum until the functions of this version are there, a moment later.
alter table persona.budgets add constraint budgets_name_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$') not valid;

alter table persona.jobs add column max_cost_usd numeric;
comment on column persona.jobs.max_cost_usd is
  'Most money in US dollars that the job and everything delegated below it may cost, all attempts together; null: no limit of its own.';
alter table persona.agents add column max_cost_usd numeric
  constraint agents_max_cost_usd_positive check (max_cost_usd > 0);
comment on column persona.agents.max_cost_usd is
  'Most money in US dollars that one execution can cost, as the program itself keeps it ({max_cost} in argv); so much is reserved at its start. Null: what such jobs have cost before is reserved.';
alter table persona.job_leases add column reserved_usd numeric;
comment on column persona.job_leases.reserved_usd is
  'Money kept for this execution while it runs; null: it costs none, or no budget asked.';
-- Few rows, whatever else runs.
create index job_leases_reserved_idx on persona.job_leases (job_id) where reserved_usd is not null;

alter table persona.cost_ledger add column job_type text;
comment on column persona.cost_ledger.job_type is 'Its type: what such jobs have cost is what the next one is expected to cost.';
update persona.cost_ledger as c set job_type = j.job_type from persona.jobs as j where j.id = c.job_id;
create index cost_ledger_type_idx on persona.cost_ledger (job_type, agent, id) where kind = 'booked';
create index cost_ledger_root_idx on persona.cost_ledger (root_job_id) where kind = 'booked';

-- Two tables and not one, so that no booking waits for another one, and no claim adds up a month of bookings.
create table persona.cost_totals (
  day date not null,
  agent text not null,
  business text not null,
  booked_usd numeric not null,
  primary key (day, agent, business)
);
comment on table persona.cost_totals is 'Money booked by UTC day, agent and business, but for what is still in cost_fresh: what budgets add up.';
comment on column persona.cost_totals.day is 'UTC day of the booking.';
comment on column persona.cost_totals.agent is 'Its agent.';
comment on column persona.cost_totals.business is 'Its instance; empty: none.';
comment on column persona.cost_totals.booked_usd is 'US dollars.';
insert into persona.cost_totals (day, agent, business, booked_usd)
select (c.at at time zone 'UTC')::date, c.agent, coalesce(c.business, ''), sum(c.amount_usd)
from persona.cost_ledger as c where c.kind = 'booked' group by 1, 2, 3;

create table persona.cost_fresh (
  id bigint primary key generated always as identity,
  day date not null,
  agent text not null,
  business text not null,
  booked_usd numeric not null
);
comment on table persona.cost_fresh is 'Bookings that are not in cost_totals yet; the tick moves them.';
comment on column persona.cost_fresh.id is 'Order of booking.';
comment on column persona.cost_fresh.day is 'UTC day of the booking.';
comment on column persona.cost_fresh.agent is 'Its agent.';
comment on column persona.cost_fresh.business is 'Its instance; empty: none.';
comment on column persona.cost_fresh.booked_usd is 'US dollars.';

-- No foreign key: cleanup would pay for its check with each job.
create table persona.budget_holds (
  job_id uuid primary key,
  bucket text not null,
  needed_usd numeric not null,
  held_at timestamptz not null default now()
);
comment on table persona.budget_holds is 'Jobs that are held because a budget has no room for them; it lets them go when it has.';
comment on column persona.budget_holds.job_id is 'The job; where it is not held any more the row means nothing.';
comment on column persona.budget_holds.bucket is 'The budget as NAME:SUBJECT, or @JOB where it is the max_cost_usd of that job.';
comment on column persona.budget_holds.needed_usd is 'US dollars that its next execution is expected to cost.';
comment on column persona.budget_holds.held_at is 'Since when.';

insert into persona.settings (name, value, description) values
  ('cost_estimate_usd', '0.25', 'US dollars reserved for a job that costs money where no maximum is given and no such job has cost anything before.'),
  ('priority_ageing_seconds', '3600', 'A job that waits rises by one step of priority in each so many seconds, as long as others go before it; 0: never.'),
  ('max_waits', '200', 'So many times in a row may a job wait for its provider without an attempt being counted; then it is held. 0: without end.'),
  ('max_wait_seconds', '604800', 'So long may it do so in all; then it is held. 0: without end.');

comment on column persona.alert_rules.kind is
  'What it watches: job_failed, job_held, job_hung, gate_closed, budget, queue_age, schedule, test, or * for everything.';

-- Their signatures grow: a replaced function would be an overload.
drop function if exists persona.create_job(
  text, jsonb, text, uuid, integer, timestamptz, interval, interval, integer, text, text, uuid, uuid[], text[],
  text, integer, text, text, text, text);
drop function if exists persona._job_items(jsonb);
drop function if exists persona._pick_jobs(text[], integer[], integer);
drop function if exists persona.release_job(text);
drop function if exists persona.register_agent(
  text, text[], text, text, jsonb, text, text, interval, interval, interval, bigint, integer, integer, text, text, text,
  boolean, boolean, boolean, boolean, boolean, text[], text[], text[], boolean, bigint, double precision, integer,
  integer, bigint, integer);
alter type persona.claimed_job add attribute max_cost_usd double precision;
