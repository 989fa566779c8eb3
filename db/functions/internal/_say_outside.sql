-- Log lines from outside of any execution: lease 0, numbered by the clock, so that they neither meet the numbers of
-- a runner's lines nor each other.
create or replace function persona._say_outside(p_job_id uuid, p_level text, p_messages text[], p_metadata jsonb)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_level text := lower(btrim(p_level));
  v_first bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
  v_count bigint;
begin
  v_level := case v_level when 'warning' then 'warn' when 'critical' then 'error' when 'fatal' then 'error' else v_level end;
  if v_level is null or v_level not in ('debug', 'info', 'warn', 'error') then
    perform persona._invalid('level', p_level, 'one of debug, info, warn (or warning), error');
  end if;
  -- Two speakers in one microsecond: one of them waits for the other and takes the next numbers.
  perform pg_advisory_xact_lock(hashtext('persona.say_outside'), hashtext(p_job_id::text));
  select greatest(v_first, max(l.seq) + 1) into v_first from persona.job_logs as l
  where l.day = (clock_timestamp() at time zone 'UTC')::date and l.job_id = p_job_id and l.lease = 0;
  insert into persona.job_logs (day, job_id, lease, seq, at, level, message, metadata)
  select (clock_timestamp() at time zone 'UTC')::date, p_job_id, 0, v_first + m.n - 1, clock_timestamp(), v_level,
    coalesce(m.message, ''), p_metadata
  from unnest(p_messages) with ordinality as m (message, n);
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function persona._say_outside(uuid, text, text[], jsonb) is
  'Internal. Stores messages about a job from outside of its executions. PJ422.';
