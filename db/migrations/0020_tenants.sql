-- 0020, expand: which login role belongs to which business, which runner login to which agents.
-- Online: new tables, nullable columns, a trigger that is enabled with the first tenant. What a runner of an older
-- protocol registered has no login role and is nobody's to a restricted login.
create table persona.tenants (
  role_name name not null,
  business text not null constraint tenants_business_is_a_name check (business <> '' and business !~ ':'),
  assigned_at timestamptz not null default now(),
  assigned_by text not null,
  primary key (role_name, business)
);
create index tenants_business_idx on persona.tenants (business);
comment on table persona.tenants is 'Login roles that see and change only jobs of their own businesses. A role without a row here is not restricted. Written by assign_tenant.';
comment on column persona.tenants.role_name is 'The login role, or the role that a pool sets for its user.';
comment on column persona.tenants.business is 'jobs.business.';
comment on column persona.tenants.assigned_at is 'When.';
comment on column persona.tenants.assigned_by is 'By whom.';

create table persona.runner_restrictions (
  role_name name primary key,
  agents text[] not null constraint runner_restrictions_names_an_agent check (cardinality(agents) > 0),
  assigned_at timestamptz not null default now(),
  assigned_by text not null
);
comment on table persona.runner_restrictions is 'Login roles whose runners serve these agents only. A role without a row here may serve all. Written by restrict_runner.';
comment on column persona.runner_restrictions.role_name is 'The login role of the runner.';
comment on column persona.runner_restrictions.agents is 'All that it may serve.';
comment on column persona.runner_restrictions.assigned_at is 'When.';
comment on column persona.runner_restrictions.assigned_by is 'By whom.';

alter table persona.runners add column login_role text;
comment on column persona.runners.login_role is 'Database role that registered it.';

-- The vault of a tenant is its own: the ledger of a note may not have a job to tell whose it is.
alter table persona.note_markers add column tenant text;
alter table persona.daily_note_state add column tenant text;
comment on column persona.note_markers.tenant is 'Business of the client that scanned it, where that is restricted to one.';
comment on column persona.daily_note_state.tenant is 'Business of the client that scanned it, where that is restricted to one.';

insert into persona.settings (name, value, description) values
  ('tenants_required', 'false', 'True: a client or viewer that is assigned to no business sees nothing; false: everything. Admins and runners see everything.');
