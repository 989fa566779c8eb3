create or replace function persona.tail_logs(ref text, lines integer default 50)
returns table (lease bigint, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
#variable_conflict use_column
declare
  v_job persona.jobs := persona.get_job(tail_logs.ref);
begin
  return query
    with execution as (
      select v_job.lease as lease
      union select a.lease from persona.job_attempts as a where a.job_id = v_job.id
    ), last as (
      select t.*
      from execution as e
      -- The last lines of each execution are candidates, read backwards along the primary key.
      cross join lateral (
        select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
        from persona.job_logs as l
        where l.day = persona._lease_day(e.lease) and l.job_id = v_job.id and l.lease = e.lease
        order by l.seq desc
        limit tail_logs.lines
      ) as t
      where e.lease > 0
      union all
      select * from (
        select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
        from persona._days_since(v_job.created_at) as d (day)
        join persona.job_logs as l on l.day = d.day and l.job_id = v_job.id and l.lease = 0
        order by l.seq desc
        limit tail_logs.lines) as o
    ), chosen as (
      select t.* from last as t
      order by t.lease desc, t.seq desc
      limit tail_logs.lines
    )
    select t.lease, t.seq, t.at, t.stream, t.level, t.message, t.metadata
    from chosen as t
    order by t.lease, t.seq;
end $$;
comment on function persona.tail_logs(text, integer) is 'Viewer API. The last log lines of a job, oldest first. PJ404, PJ300.';
