create or replace function persona.get_logs(
  ref text, after_lease bigint default 0, after_seq bigint default 0, max_lines integer default 1000)
returns table (lease bigint, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
  from persona.jobs as j
  join persona.job_logs as l on l.job_id = j.id and l.day >= (j.created_at at time zone 'UTC')::date
  where j.id = persona.resolve_job(get_logs.ref)
    and (l.lease, l.seq) > (get_logs.after_lease, get_logs.after_seq)
  order by l.lease, l.seq
  limit get_logs.max_lines;
$$;
comment on function persona.get_logs(text, bigint, bigint, integer) is
  'Viewer API. Log lines of a job, oldest first, strictly after the cursor (lease, seq) of the last line read.';
