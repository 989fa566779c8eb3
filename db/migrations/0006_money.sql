-- 0006, expand: provider gates, budgets, the cost ledger.
create table persona.gates (
  provider text not null,
  account text not null default '',
  state text not null default 'open' constraint gates_state_known check (state in ('open', 'closed', 'probing')),
  reason text,
  closed_at timestamptz,
  reopens_at timestamptz,
  probe_job_id uuid,
  updated_at timestamptz not null default now(),
  primary key (provider, account)
);
comment on table persona.gates is 'Providers that refuse work: while a gate is closed no runner starts a job of that provider.';
comment on column persona.gates.provider is 'agents.provider.';
comment on column persona.gates.account is 'Account at that provider; empty: all.';
comment on column persona.gates.state is 'open, closed, or probing: one job tries whether it works again.';
comment on column persona.gates.reason is 'Why it is closed.';
comment on column persona.gates.closed_at is 'Since when.';
comment on column persona.gates.reopens_at is 'When a probe may start; null: when a person opens it.';
comment on column persona.gates.probe_job_id is 'The job that tries.';
comment on column persona.gates.updated_at is 'Last change.';

create table persona.budgets (
  name text primary key,
  scope text not null constraint budgets_scope_known check (scope in ('job', 'tree', 'agent', 'business', 'total')),
  subject text,
  period text not null default 'total' constraint budgets_period_known check (period in ('total', 'day', 'month')),
  limit_usd numeric not null constraint budgets_limit_not_negative check (limit_usd >= 0),
  is_active boolean not null default true,
  updated_at timestamptz not null default now()
);
comment on table persona.budgets is 'Limits on money, checked at claim.';
comment on column persona.budgets.name is 'Key; shown in the reason of a held job.';
comment on column persona.budgets.scope is 'What it limits: one job, one delegation tree, an agent, a business, or everything.';
comment on column persona.budgets.subject is 'Which job, tree, agent or business; null where scope is total, or for each of that kind.';
comment on column persona.budgets.period is 'total, or for each day or month (UTC).';
comment on column persona.budgets.limit_usd is 'US dollars.';
comment on column persona.budgets.is_active is 'False: not checked.';
comment on column persona.budgets.updated_at is 'Last change.';

create table persona.cost_ledger (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  job_id uuid not null,
  root_job_id uuid,
  lease bigint not null,
  agent text not null,
  business text,
  model text,
  kind text not null constraint cost_ledger_kind_known check (kind in ('reserved', 'released', 'booked')),
  amount_usd numeric not null,
  tokens jsonb
);
create index cost_ledger_at_idx on persona.cost_ledger using brin (at);
create index cost_ledger_job_idx on persona.cost_ledger (job_id);
comment on table persona.cost_ledger is 'What was spent, append only.';
comment on column persona.cost_ledger.id is 'Order of booking.';
comment on column persona.cost_ledger.at is 'When it was booked.';
comment on column persona.cost_ledger.job_id is 'The job.';
comment on column persona.cost_ledger.root_job_id is 'Top of its delegation tree.';
comment on column persona.cost_ledger.lease is 'The execution.';
comment on column persona.cost_ledger.agent is 'Its agent.';
comment on column persona.cost_ledger.business is 'Its instance.';
comment on column persona.cost_ledger.model is 'Model that answered.';
comment on column persona.cost_ledger.kind is 'reserved at claim, released and booked at the end.';
comment on column persona.cost_ledger.amount_usd is 'US dollars.';
comment on column persona.cost_ledger.tokens is 'Tokens of the execution.';
