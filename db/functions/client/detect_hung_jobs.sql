create or replace function persona.detect_hung_jobs(timeout interval default interval '5 minutes')
returns setof persona.job_dashboard
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select d.* from persona.job_leases as l
  join persona.job_dashboard as d on d.id = l.job_id
  where l.heartbeat_at < now() - detect_hung_jobs.timeout
  order by l.heartbeat_at;
$$;
comment on function persona.detect_hung_jobs(interval) is
  'Viewer API. Running jobs without a heartbeat for that long, by the server''s clock; how long they have been running does not matter. Changes nothing: see recover_hung_jobs.';

create or replace function persona.detect_hung_jobs(seconds integer)
returns setof persona.job_dashboard
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select d.* from persona.detect_hung_jobs(make_interval(secs => detect_hung_jobs.seconds)) as d;
$$;
comment on function persona.detect_hung_jobs(integer) is 'Viewer API. detect_hung_jobs with the time in seconds.';

-- For a bare literal, detect_hung_jobs('5 minutes'), which fits the two above equally well.
create or replace function persona.detect_hung_jobs(timeout text)
returns setof persona.job_dashboard
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select d.* from persona.detect_hung_jobs(detect_hung_jobs.timeout::interval) as d;
$$;
comment on function persona.detect_hung_jobs(text) is 'Viewer API. detect_hung_jobs with the time as text, such as 5 minutes.';
