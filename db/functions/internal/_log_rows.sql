-- Lines of these executions as they are stored, of those that name them just so: to read an id anew for each line costs
-- a twelfth of all. Parsed when it is installed, and becomes part of the statement that asks for it.
create or replace function persona._log_rows(p_lines jsonb, p_jobs text[], p_leases text[])
returns setof persona.job_logs
language sql stable
begin atomic
  select e.day, e.id, e.number, n.seq, coalesce(n.at, now()),
    case when n.stream in ('stdout', 'stderr') then n.stream else 'system' end,
    case when n.level in ('debug', 'warn', 'error') then n.level when n.level = 'warning' then 'warn' else 'info' end,
    coalesce(n.message, ''), n.metadata
  from (
    select u.job_id, u.lease, u.job_id::uuid as id, u.lease::bigint as number,
      persona._lease_day(u.lease::bigint) as day
    from unnest(p_jobs, p_leases) as u (job_id, lease) offset 0) as e
  join jsonb_to_recordset(p_lines) as n (
    job_id text, lease text, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
    on n.job_id = e.job_id and n.lease = e.lease
  where n.seq is not null;
end;
comment on function persona._log_rows(jsonb, text[], text[]) is 'Internal. Log lines of these executions, as they are stored.';
