-- Stores log lines of jobs that the runner holds. A line sent twice is stored once. Lines under a lease that has
-- ended are counted on its attempt and not stored; unless this runner ended it itself a moment ago, when they are
-- the tail of an output that was reported before its last lines.
create or replace function persona.append_logs(runner_id uuid, lines jsonb) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off as $$
#variable_conflict use_column
declare
  v_accepted bigint;
  v_held jsonb;
begin
  perform persona._own_runner(append_logs.runner_id);
  if append_logs.lines is null or jsonb_typeof(append_logs.lines) <> 'array' then
    perform persona._invalid('lines', left(append_logs.lines::text, 100), 'a JSON array of objects is needed');
  end if;
  -- Few executions have many lines: who holds what is looked up once for each execution.
  select coalesce(jsonb_object_agg(e.job_id || ':' || e.lease, true), '{}') into v_held
  from (
    select distinct i.job_id, i.lease
    from jsonb_to_recordset(append_logs.lines) as i (job_id uuid, lease bigint)
  ) as e
  -- Not exists: it may be answered from a hash of the whole history.
  where coalesce((
      select true from persona.job_leases as l
      where l.job_id = e.job_id and l.lease = e.lease and l.runner_id = append_logs.runner_id limit 1), (
      select true from persona.job_attempts as a
      where a.job_id = e.job_id and a.lease = e.lease and a.runner_id = append_logs.runner_id
        and a.outcome <> 'orphaned' and a.stale_result is null and a.ended_at > now() - interval '1 hour' limit 1), false);

  with line as materialized (
    select i.job_id, i.lease, i.seq, i.at, i.stream, i.level, i.message, i.metadata,
      v_held ? (i.job_id || ':' || i.lease) as is_held
    from jsonb_to_recordset(append_logs.lines) as i (
      job_id uuid, lease bigint, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
    where i.job_id is not null and i.lease is not null and i.seq is not null
  ), stored as (
    insert into persona.job_logs (day, job_id, lease, seq, at, stream, level, message, metadata)
    select persona._lease_day(n.lease), n.job_id, n.lease, n.seq,
      coalesce(n.at, now()),
      case when n.stream in ('stdout', 'stderr') then n.stream else 'system' end,
      case when n.level in ('debug', 'warn', 'error') then n.level when n.level = 'warning' then 'warn' else 'info' end,
      coalesce(n.message, ''), n.metadata
    from line as n
    where n.is_held
    on conflict do nothing
  ), refused as (
    update persona.job_attempts as a set refused_log_lines = a.refused_log_lines + r.n
    from (
      select n.job_id, n.lease, count(*) as n from line as n where not n.is_held group by n.job_id, n.lease) as r
    where a.job_id between r.job_id and r.job_id and a.lease = r.lease
  )
  select count(*) filter (where n.is_held) into v_accepted from line as n;
  perform persona._announce_logs(append_logs.lines);
  return v_accepted;
end $$;
comment on function persona.append_logs(uuid, jsonb) is
  'Runner API. Stores [{job_id, lease, seq, at, stream, level, message, metadata}] and returns how many were accepted, those already stored included. Lines of a lost lease are counted on its attempt, not stored.';
