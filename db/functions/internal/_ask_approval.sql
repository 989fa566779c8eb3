create or replace function persona._ask_approval(p_job_id uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  insert into persona.questions (job_id, kind, text) values (p_job_id, 'approval', 'needs approval');
end $$;
comment on function persona._ask_approval(uuid) is 'Internal. Notes that a held job waits for the approval of a person.';
