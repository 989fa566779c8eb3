-- Registers an agent, or replaces the given parts of one that exists. Null means: as it is, or the default.
create or replace function persona.register_agent(
  name text, argv text[] default null, description text default null, stdin_template text default null,
  env jsonb default null, workdir text default null, output_format text default null, timeout interval default null,
  idle_timeout interval default null, kill_grace interval default null, output_limit bigint default null,
  max_attempts integer default null, max_concurrent integer default null, role text default null,
  provider text default null, model text default null, is_active boolean default null,
  is_external boolean default null, admin_only boolean default null, costs_money boolean default null,
  keeps_conversation boolean default null, may_delegate_to text[] default null, launcher text[] default null,
  resume_argv text[] default null, requires_approval boolean default null,
  memory_limit bigint default null, cpu_limit double precision default null, process_limit integer default null,
  open_files_limit integer default null, file_size_limit bigint default null, nice integer default null,
  max_cost_usd numeric default null
) returns persona.agents
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_changes jsonb := jsonb_strip_nulls(jsonb_build_object(
    'argv', register_agent.argv, 'description', register_agent.description,
    'stdin_template', register_agent.stdin_template, 'env', register_agent.env, 'workdir', register_agent.workdir,
    'output_format', register_agent.output_format, 'timeout', register_agent.timeout,
    'idle_timeout', register_agent.idle_timeout, 'kill_grace', register_agent.kill_grace,
    'output_limit', register_agent.output_limit, 'max_attempts', register_agent.max_attempts,
    'max_concurrent', register_agent.max_concurrent, 'role', register_agent.role,
    'provider', register_agent.provider, 'model', register_agent.model, 'is_active', register_agent.is_active,
    'is_external', register_agent.is_external, 'admin_only', register_agent.admin_only,
    'costs_money', register_agent.costs_money, 'keeps_conversation', register_agent.keeps_conversation,
    'may_delegate_to', register_agent.may_delegate_to, 'launcher', register_agent.launcher,
    'resume_argv', register_agent.resume_argv, 'requires_approval', register_agent.requires_approval,
    'memory_limit', register_agent.memory_limit, 'cpu_limit', register_agent.cpu_limit,
    'process_limit', register_agent.process_limit, 'open_files_limit', register_agent.open_files_limit,
    'file_size_limit', register_agent.file_size_limit, 'nice', register_agent.nice,
    'max_cost_usd', register_agent.max_cost_usd));
begin
  if coalesce(register_agent.name, '') !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' then
    perform persona._invalid('name', register_agent.name,
      'lower case letters, digits, ".", "_" and "-" are allowed, at most 63, beginning with a letter or digit');
  end if;
  if not exists (select from persona.agents as a where a.name = register_agent.name) then
    if coalesce(cardinality(register_agent.argv), 0) = 0 then
      perform persona._invalid('argv', register_agent.argv::text, 'a new agent needs its program and arguments');
    end if;
    insert into persona.agents (name, argv) values (register_agent.name, register_agent.argv)
    on conflict do nothing;
  end if;
  return persona.update_agent(register_agent.name, v_changes);
end $$;
comment on function persona.register_agent(
  text, text[], text, text, jsonb, text, text, interval, interval, interval, bigint, integer, integer, text, text, text,
  boolean, boolean, boolean, boolean, boolean, text[], text[], text[], boolean, bigint, double precision, integer,
  integer, bigint, integer, numeric) is
  'Admin API. Registers an agent, or changes the given parts of an existing one; a null argument leaves that part as it is (update_agent can clear one). PJ422.';
