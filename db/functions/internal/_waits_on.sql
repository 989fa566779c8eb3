create or replace function persona._waits_on(p_agent text, p_run_at timestamptz) returns text
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return case
    when exists (select from persona.agents as a where a.name = p_agent and a.is_external) then 'external'
    when p_run_at > now() then 'time'
  end;
end $$;
comment on function persona._waits_on(text, timestamptz) is 'Internal. Value of job_queue.waits_on for a new entry.';
