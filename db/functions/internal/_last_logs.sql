-- The last lines of a job, newest first: those of its executions and those said from outside, by their time.
create or replace function persona._last_logs(p_job_id uuid, p_lines integer)
returns table (at timestamptz, level text, message text, metadata jsonb)
language sql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
  with job as (
    select j.id, j.lease, j.created_at from persona.jobs as j where j.id = p_job_id
  ), execution as (
    select j.lease from job as j where j.lease > 0
    union
    select a.lease from persona.job_attempts as a where a.job_id = p_job_id
  ), line as (
    select t.*
    from execution as e
    cross join lateral (
      select l.at, l.lease, l.seq, l.level, l.message, l.metadata from persona.job_logs as l
      where l.day = persona._lease_day(e.lease) and l.job_id = p_job_id and l.lease = e.lease
      order by l.seq desc limit p_lines) as t
    union all
    select t.*
    from job as j
    cross join lateral persona._days_since(j.created_at) as d (day)
    cross join lateral (
      select l.at, l.lease, l.seq, l.level, l.message, l.metadata from persona.job_logs as l
      where l.day = d.day and l.job_id = p_job_id and l.lease = 0
      order by l.seq desc limit p_lines) as t
  )
  select n.at, n.level, n.message, n.metadata from line as n
  order by n.at desc, n.lease desc, n.seq desc
  limit p_lines;
$$;
comment on function persona._last_logs(uuid, integer) is 'Internal. Last log lines of a job, newest first.';
