-- Registers a job type, or replaces the given parts of one that exists. Null means: as it is, or the default.
create or replace function persona.register_job_type(
  name text, description text default null, default_agent text default null, prompt_template text default null,
  requires_one_of text[] default null, script_argv text[] default null, prompt_file text default null
) returns persona.job_types
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_type persona.job_types;
begin
  if coalesce(length(register_job_type.name), 0) not between 1 and 100 then
    perform persona._invalid('name', register_job_type.name, 'a name of 1 to 100 characters is needed');
  elsif not exists (select from persona.agents as a where a.name = register_job_type.default_agent)
    and register_job_type.default_agent is not null
  then
    perform persona._unknown_agent('default_agent', register_job_type.default_agent);
  end if;
  insert into persona.job_types as t (
    name, description, default_agent, prompt_template, requires_one_of, script_argv, prompt_file)
  values (
    register_job_type.name, coalesce(register_job_type.description, ''), register_job_type.default_agent,
    coalesce(register_job_type.prompt_template, '{payload.prompt}'), coalesce(register_job_type.requires_one_of, '{}'),
    register_job_type.script_argv, register_job_type.prompt_file)
  on conflict (name) do update
  set description = coalesce(register_job_type.description, t.description),
      default_agent = coalesce(register_job_type.default_agent, t.default_agent),
      prompt_template = coalesce(register_job_type.prompt_template, t.prompt_template),
      requires_one_of = coalesce(register_job_type.requires_one_of, t.requires_one_of),
      script_argv = coalesce(register_job_type.script_argv, t.script_argv),
      prompt_file = coalesce(register_job_type.prompt_file, t.prompt_file)
  returning * into v_type;
  return v_type;
end $$;
comment on function persona.register_job_type(text, text, text, text, text[], text[], text) is
  'Admin API. Registers a job type, or changes the given parts of an existing one; a null argument leaves that part as it is. PJ422.';
