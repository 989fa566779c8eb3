-- A function of one expression: the planner puts it in the place of its call, and reads no column that is not asked for.
create or replace function persona._job_matches(
  p_job persona.jobs, p_status text, p_agent text, p_job_type text, p_business text, p_tag text, p_search text
) returns boolean
language sql stable
return (p_status is null or p_job.status = case p_status when 'hung' then 'running' else p_status end)
  and (p_agent is null or p_job.agent = p_agent)
  and (p_job_type is null or p_job.job_type = p_job_type)
  and (p_business is null or p_job.business = p_business)
  and (p_tag is null or p_tag = any(p_job.tags))
  and (p_status is distinct from 'hung' or exists (
    select from persona.job_leases as l where l.job_id = p_job.id and l.expires_at < now()))
  and (p_search is null or position(lower(p_search) in lower(concat_ws(e'\n', p_job.id, p_job.job_type, p_job.agent,
    p_job.error, p_job.status_reason, p_job.source_file, array_to_string(p_job.tags, ' '), p_job.payload))) > 0);
comment on function persona._job_matches(persona.jobs, text, text, text, text, text, text) is
  'Internal. Does a job fit a listing''s filter? Null: any.';
