-- Messages of another queue about imported jobs, as said from outside of any execution (lease 0). The number of a
-- line is the caller's, so that a line sent twice is stored once. Lines of unknown jobs, and lines past their
-- retention, whose partitions are gone, are left out.
create or replace function persona.import_logs(lines jsonb) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_count bigint;
begin
  if import_logs.lines is null or jsonb_typeof(import_logs.lines) <> 'array' then
    perform persona._invalid('lines', left(import_logs.lines::text, 200), 'a JSON array of objects is needed');
  end if;
  insert into persona.job_logs (day, job_id, lease, seq, at, level, message, metadata)
  select (i.at at time zone 'UTC')::date, i.job_id, 0, i.seq, i.at,
    case lower(i.level) when 'debug' then 'debug' when 'warn' then 'warn' when 'warning' then 'warn'
      when 'error' then 'error' when 'critical' then 'error' else 'info' end,
    coalesce(i.message, ''), i.metadata
  from jsonb_to_recordset(import_logs.lines) as i (
    job_id uuid, seq bigint, at timestamptz, level text, message text, metadata jsonb)
  join persona.jobs as j on j.id = i.job_id
  where i.at >= now() - make_interval(days => persona._setting('log_retention_days')::integer)
  on conflict do nothing;
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function persona.import_logs(jsonb) is
  'Admin API. Stores messages {job_id, seq, at, level, message, metadata} about imported jobs and returns how many were new; those older than log_retention_days are left out. PJ422.';
