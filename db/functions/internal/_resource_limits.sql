create or replace function persona._resource_limits(p_agent persona.agents) returns jsonb
language sql stable
return case when num_nonnulls(
    p_agent.memory_limit, p_agent.cpu_limit, p_agent.process_limit, p_agent.open_files_limit, p_agent.file_size_limit,
    p_agent.nice) > 0
  then jsonb_strip_nulls(jsonb_build_object(
    'memory', p_agent.memory_limit, 'cpu', p_agent.cpu_limit, 'processes', p_agent.process_limit,
    'open_files', p_agent.open_files_limit, 'file_size', p_agent.file_size_limit, 'nice', p_agent.nice))
  end;
comment on function persona._resource_limits(persona.agents) is
  'Internal. What a job of the agent may use, as the runner is told; null where nothing is limited.';
