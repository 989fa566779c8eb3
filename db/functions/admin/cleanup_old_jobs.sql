-- Deletes finished jobs with their history. It touches no row that a claim looks at, skips what others have locked,
-- and leaves a job whose tree below it or whose dependents are not finished. Log lines go with their day's partition;
-- those of the deleted jobs are removed here only where the partition stays longer.
-- Ids are in the order of creation, and a job ends after it was created: the old ones have the ids from before. Only
-- those are read, from the place where the batch before ended, so that a call costs what it deletes and not what the
-- history holds. Ids of other kinds, which callers may choose, lie behind all that time has reached.
create or replace function persona.cleanup_old_jobs(
  days integer default 30, dry_run boolean default false, max_jobs integer default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
declare
  v_before timestamptz := now() - make_interval(days => cleanup_old_jobs.days);
  v_ids uuid[];
  v_after uuid;
  v_end uuid;
  v_done bigint := 0;
  v_batch integer;
begin
  if cleanup_old_jobs.days is null or cleanup_old_jobs.days < 0 then
    perform persona._invalid('days', cleanup_old_jobs.days::text, '0 or more is needed');
  end if;
  for v_after, v_end in
    values ('00000000-0000-0000-0000-000000000000'::uuid, persona._id_floor(v_before + interval '1 millisecond')),
      (persona._id_floor(now() + interval '1 day'), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
  loop
    if cleanup_old_jobs.dry_run then
      v_done := v_done + (
        select count(*) from persona.jobs as j
        where j.id > v_after and j.id <= v_end
          and j.status in ('completed', 'failed', 'cancelled') and j.completed_at < v_before
          and not persona._is_needed(j.id));
      continue;
    end if;
    loop
      v_batch := least(5000, coalesce(cleanup_old_jobs.max_jobs, 5000 + v_done) - v_done);
      exit when v_batch <= 0;
      v_ids := array(
        select j.id from persona.jobs as j
        where j.id > v_after and j.id <= v_end
          and j.status in ('completed', 'failed', 'cancelled') and j.completed_at < v_before
          and not persona._is_needed(j.id)
        order by j.id limit v_batch for update skip locked);
      exit when cardinality(v_ids) = 0;
      v_after := v_ids[cardinality(v_ids)];
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
  end loop;
  return v_done;
end $$;
comment on function persona.cleanup_old_jobs(integer, boolean, integer) is
  'Admin API. Deletes jobs that ended more than so many days ago, with attempts and log lines, at most max_jobs of them (null: all), and returns how many; dry_run only counts. Call it repeatedly with max_jobs to keep transactions short.';
