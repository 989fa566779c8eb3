-- Moves the place up to which jobs are counted. What was deleted in between is not there to be counted, and its removal,
-- which this statement sees just as it sees the jobs, means nothing any more. One that it does not see yet is taken off
-- later: the job was there to be counted.
-- All of them are counted anew where that is asked for, and after a restore where they are not too many for a tick.
create or replace function persona._count_jobs(p_to bigint, p_anew boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan as $$
begin
  with removed as (
    delete from persona.job_removals as r
    where r.created_xid < p_to
    returning r.created_xid, r.jobs
  )
  update persona.activity_cursor as c
  set counted_xid = p_to, jobs = case
      when p_anew or c.jobs is null and (
          select t.reltuples from pg_class as t where t.oid = 'persona.jobs'::regclass) < 1000000
        then (select count(*) from persona.jobs) - (
          select count(*) from persona.jobs as j where j.created_xid >= p_to and j.seq > c.restored_seq)
      else c.jobs - (
        select coalesce(sum(r.jobs), 0) from removed as r where r.created_xid < c.counted_xid) + (
        select count(*) from persona.jobs as j
        where j.created_xid >= c.counted_xid and j.created_xid < p_to and j.seq > c.restored_seq)
      end;
end $$;
comment on function persona._count_jobs(bigint, boolean) is
  'Internal. Adds the jobs of transactions below p_to to activity_cursor, and takes off those that were deleted.';
