-- Each status is found through the narrow table or index made for it, so that a listing does not read history.
create or replace function persona.list_jobs(
  status text default null, agent text default null, job_type text default null, max_rows integer default 50,
  before uuid default null
) returns setof persona.job_dashboard
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if list_jobs.status is null or list_jobs.status = 'completed' then
    return query
      select d.* from persona.job_dashboard as d
      where (list_jobs.status is null or d.status = list_jobs.status)
        and (list_jobs.agent is null or d.agent = list_jobs.agent)
        and (list_jobs.job_type is null or d.job_type = list_jobs.job_type)
        and (list_jobs.before is null or d.id < list_jobs.before)
      order by d.id desc limit list_jobs.max_rows;
  elsif list_jobs.status in ('running', 'hung') then
    return query
      select d.* from persona.job_leases as l
      join persona.job_dashboard as d on d.id = l.job_id
      where (list_jobs.status = 'running' or d.hung)
        and (list_jobs.agent is null or d.agent = list_jobs.agent)
        and (list_jobs.job_type is null or d.job_type = list_jobs.job_type)
        and (list_jobs.before is null or d.id < list_jobs.before)
      order by d.id desc limit list_jobs.max_rows;
  elsif list_jobs.status = 'pending' then
    return query
      select d.* from persona.job_queue as q
      join persona.job_dashboard as d on d.id = q.job_id
      where (list_jobs.agent is null or q.agent = list_jobs.agent)
        and (list_jobs.job_type is null or d.job_type = list_jobs.job_type)
        and (list_jobs.before is null
             or q.seq < (select b.seq from persona.jobs as b where b.id = list_jobs.before))
      order by q.seq desc limit list_jobs.max_rows;
  elsif list_jobs.status in ('blocked', 'held', 'failed', 'cancelled') then
    return query
      select d.* from persona.jobs as j
      join persona.job_dashboard as d on d.id = j.id
      where j.attention = list_jobs.status
        and (list_jobs.agent is null or j.agent = list_jobs.agent)
        and (list_jobs.job_type is null or j.job_type = list_jobs.job_type)
        and (list_jobs.before is null or j.id < list_jobs.before)
      order by j.id desc limit list_jobs.max_rows;
  else
    perform persona._invalid('status', list_jobs.status,
      'one of blocked, pending, running, hung, held, completed, failed, cancelled');
  end if;
end $$;
comment on function persona.list_jobs(text, text, text, integer, uuid) is
  'Viewer API. Jobs, newest first, as rows of job_dashboard; status may also be hung; before pages on from an id.';
