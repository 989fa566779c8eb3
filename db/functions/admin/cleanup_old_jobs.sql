-- Deletes finished jobs with their history. It touches no row that a claim looks at, skips what others have locked,
-- and leaves a job whose tree below it or whose dependents are not finished. Log lines go with their day's partition; those of
-- the deleted jobs are removed here only where the partition stays longer.
create or replace function persona.cleanup_old_jobs(
  days integer default 30, dry_run boolean default false, max_jobs integer default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_before timestamptz := now() - make_interval(days => cleanup_old_jobs.days);
  v_ids uuid[];
  v_done bigint := 0;
  v_batch integer;
begin
  if cleanup_old_jobs.days is null or cleanup_old_jobs.days < 0 then
    perform persona._invalid('days', cleanup_old_jobs.days::text, '0 or more is needed');
  end if;
  if cleanup_old_jobs.dry_run then
    return (
      select count(*) from persona.jobs as j
      where j.status in ('completed', 'failed', 'cancelled') and j.completed_at < v_before
        and not persona._is_needed(j.id));
  end if;
  loop
    v_batch := least(5000, coalesce(cleanup_old_jobs.max_jobs, 5000 + v_done) - v_done);
    exit when v_batch <= 0;
    -- Ids are in the order of creation, and a job ends after it was created: the primary key leads to the old ones.
    v_ids := array(
      select j.id from persona.jobs as j
      where j.status in ('completed', 'failed', 'cancelled') and j.completed_at < v_before
        and not persona._is_needed(j.id)
      order by j.id limit v_batch for update skip locked);
    exit when cardinality(v_ids) = 0;
    delete from persona.job_logs as l
    using (
      select a.job_id, persona._lease_day(a.lease) as day
      from persona.job_attempts as a where a.job_id = any(v_ids) group by 1, 2) as e
    where l.day = e.day and l.job_id = e.job_id;
    delete from persona.job_attempts as a where a.job_id = any(v_ids);
    delete from persona.alerts as s where s.job_id = any(v_ids);
    delete from persona.jobs as j where j.id = any(v_ids);
    v_done := v_done + cardinality(v_ids);
  end loop;
  return v_done;
end $$;
comment on function persona.cleanup_old_jobs(integer, boolean, integer) is
  'Admin API. Deletes jobs that ended more than so many days ago, with attempts and log lines, at most max_jobs of them (null: all), and returns how many; dry_run only counts. Call it repeatedly with max_jobs to keep transactions short.';
