create or replace function persona.tail_logs(ref text, lines integer default 50)
returns table (lease bigint, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select t.lease, t.seq, t.at, t.stream, t.level, t.message, t.metadata
  from (
    select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
    from persona.jobs as j
    join persona.job_logs as l on l.job_id = j.id and l.day >= (j.created_at at time zone 'UTC')::date
    where j.id = persona.resolve_job(tail_logs.ref)
    order by l.lease desc, l.seq desc
    limit tail_logs.lines
  ) as t
  order by t.lease, t.seq;
$$;
comment on function persona.tail_logs(text, integer) is 'Viewer API. The last log lines of a job, oldest first.';
