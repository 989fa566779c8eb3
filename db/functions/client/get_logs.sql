-- Execution by execution, so that each page is read in the order of the primary key, however long the log is.
create or replace function persona.get_logs(
  ref text, after_lease bigint default 0, after_seq bigint default 0, max_lines integer default 1000)
returns table (lease bigint, seq bigint, at timestamptz, stream text, level text, message text, metadata jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
#variable_conflict use_column
declare
  v_job persona.jobs := persona.get_job(get_logs.ref);
  v_left integer := get_logs.max_lines;
  v_lease bigint;
  v_after bigint;
  v_found integer;
begin
  for v_lease in
    select e.lease
    from (
      select 0 as lease union select v_job.lease
      union select a.lease from persona.job_attempts as a where a.job_id = v_job.id) as e
    where e.lease >= get_logs.after_lease
    order by e.lease
  loop
    v_after := case when v_lease = get_logs.after_lease then get_logs.after_seq else 0 end;
    if v_lease = 0 then
      -- What was said from outside of any execution lies under the day it was said.
      return query
        select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
        from persona._days_since(v_job.created_at) as d (day)
        join persona.job_logs as l on l.day = d.day and l.job_id = v_job.id and l.lease = 0 and l.seq > v_after
        order by l.seq
        limit v_left;
    else
      return query
        select l.lease, l.seq, l.at, l.stream, l.level, l.message, l.metadata
        from persona.job_logs as l
        where l.day = persona._lease_day(v_lease) and l.job_id = v_job.id and l.lease = v_lease
          and l.seq > v_after
        order by l.seq
        limit v_left;
    end if;
    get diagnostics v_found = row_count;
    v_left := v_left - v_found;
    exit when v_left <= 0;
  end loop;
end $$;
comment on function persona.get_logs(text, bigint, bigint, integer) is
  'Viewer API. Log lines of a job, oldest first, strictly after the cursor (lease, seq) of the last line read. PJ404, PJ300.';
