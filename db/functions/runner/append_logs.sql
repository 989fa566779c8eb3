-- Stores log lines of jobs that the runner holds. A line sent twice is stored once. Lines under a lease that has
-- ended are counted on its attempt and not stored; unless this runner ended it itself a moment ago, when they are
-- the tail of an output that was reported before its last lines.
-- Lines come again only where an answer was lost, so they are inserted as new ones at first: to look for each in the
-- index before it goes there costs a quarter of all.
-- Mostly all are of one execution, so the lines of what a batch begins and ends with are stored first; where these are
-- all, each has been read once. Those of others follow.
create or replace function persona.append_logs(runner_id uuid, lines jsonb) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off as $$
#variable_conflict use_column
declare
  v_first jsonb := append_logs.lines -> 0;
  v_last jsonb := append_logs.lines -> -1;
  v_run record;
  v_jobs text[] := array[]::text[];
  v_leases text[] := array[]::text[];
  v_stored bigint := 0;
  v_accepted bigint := 0;
begin
  perform persona._own_runner(append_logs.runner_id);
  if append_logs.lines is null or jsonb_typeof(append_logs.lines) <> 'array' then
    perform persona._invalid('lines', left(append_logs.lines::text, 100), 'a JSON array of objects is needed');
  end if;

  if v_first -> 'job_id' = v_last -> 'job_id' and v_first -> 'lease' = v_last -> 'lease' and exists (
    select from persona.job_leases as l
    where l.job_id = (v_first ->> 'job_id')::uuid and l.lease = (v_first ->> 'lease')::bigint
      and l.runner_id = append_logs.runner_id)
  then
    begin
      insert into persona.job_logs
      select r.*
      from persona._log_rows(append_logs.lines, array[v_first ->> 'job_id'], array[v_first ->> 'lease']) as r;
      get diagnostics v_stored = row_count;
    exception when unique_violation then
      null; -- some of them come again: nothing is stored yet, and all are taken below
    end;
    if v_stored = jsonb_array_length(append_logs.lines) then
      perform persona._announce_logs(append_logs.lines);
      return v_stored;
    end if;
  end if;

  -- Few executions have many lines: who holds what is looked up once for each execution.
  for v_run in
    select e.job_id, e.lease, e.n, coalesce((
        -- Not exists: it may be answered from a hash of the whole history.
        select true from persona.job_leases as l
        where l.job_id = e.job_id::uuid and l.lease = e.lease::bigint and l.runner_id = append_logs.runner_id limit 1), (
        select true from persona.job_attempts as a
        where a.job_id = e.job_id::uuid and a.lease = e.lease::bigint and a.runner_id = append_logs.runner_id
          and a.outcome <> 'orphaned' and a.stale_result is null and a.ended_at > now() - interval '1 hour' limit 1),
      false) as is_held
    from (
      select i.job_id, i.lease, count(*) as n
      from jsonb_to_recordset(append_logs.lines) as i (job_id text, lease text, seq bigint)
      where i.job_id is not null and i.lease is not null and i.seq is not null
        and (v_stored = 0 or i.job_id <> v_first ->> 'job_id' or i.lease <> v_first ->> 'lease')
      group by i.job_id, i.lease) as e
  loop
    if v_run.is_held then
      v_jobs := v_jobs || v_run.job_id;
      v_leases := v_leases || v_run.lease;
      v_accepted := v_accepted + v_run.n;
    else
      update persona.job_attempts as a set refused_log_lines = a.refused_log_lines + v_run.n
      where a.job_id = v_run.job_id::uuid and a.lease = v_run.lease::bigint;
    end if;
  end loop;

  if v_accepted > 0 then
    begin
      insert into persona.job_logs select r.* from persona._log_rows(append_logs.lines, v_jobs, v_leases) as r;
    exception when unique_violation then
      insert into persona.job_logs select r.* from persona._log_rows(append_logs.lines, v_jobs, v_leases) as r
      on conflict do nothing;
    end;
  end if;
  perform persona._announce_logs(append_logs.lines);
  return v_stored + v_accepted;
end $$;
comment on function persona.append_logs(uuid, jsonb) is
  'Runner API. Stores [{job_id, lease, seq, at, stream, level, message, metadata}] and returns how many were accepted, those already stored included. Lines of a lost lease are counted on its attempt, not stored.';
