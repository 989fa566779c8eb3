-- Where the cursor is ahead of the server, that one was restored from a dump: its transactions begin anew, and what came
-- along is told by its time, and by its number.
create or replace function persona._count_activity() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_to constant bigint := persona._feed_horizon();
  v_cursor persona.activity_cursor;
begin
  select * into v_cursor from persona.activity_cursor as c for no key update;
  if v_cursor.counted_xid > pg_snapshot_xmax(pg_current_snapshot())::text::bigint then
    delete from persona.activity;
    delete from persona.agent_hours;
    delete from persona.activity_times;
    update persona.activity_cursor as c
    set counted_xid = v_to, first_xid = v_to, restored_at = now(), jobs = null,
        since = date_bin('15 minutes', now(), timestamptz '2000-01-01 00:00Z') + interval '15 minutes',
        restored_seq = (select coalesce(max(j.seq), 0) from persona.jobs as j);
  else
    perform persona._summarize_arrivals();
    perform persona._sum_activity(v_cursor.counted_xid, v_to, v_cursor.restored_at, 'infinity');
  end if;
  perform persona._count_jobs(greatest(v_to, (select c.counted_xid from persona.activity_cursor as c)), false);
  perform persona._sum_past();
  -- Only soon after that moment: what has come since is known, but not what was released or answered.
  insert into persona.queue_depths (at, pending)
  select b.at, greatest(0, (select count(*) from persona.job_queue) - (
    select coalesce(sum(a.came), 0) from persona.activity as a where a.at >= b.at))
  from (select date_bin('15 minutes', now(), timestamptz '2000-01-01 00:00Z')) as b (at)
  where now() < b.at + interval '2 minutes'
    and not exists (select from persona.queue_depths as q where q.at = b.at)
  on conflict do nothing;
end $$;
comment on function persona._count_activity() is
  'Internal. Moves what has happened into the sums, and into the number of jobs.';
