create or replace function persona._needs_approval(p_agent text, p_job_type text) returns boolean
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return exists (select from persona.agents as a where a.name = p_agent and a.requires_approval)
    or exists (select from persona.job_types as t where t.name = p_job_type and t.requires_approval);
end $$;
comment on function persona._needs_approval(text, text) is 'Internal. Must a person approve a job of this agent and type before it starts?';
