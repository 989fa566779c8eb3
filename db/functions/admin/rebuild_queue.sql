-- Repairs job_queue and the number of jobs after a restore of single tables or an edit with triggers disabled. Reads all
-- jobs.
create or replace function persona.rebuild_queue() returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_count bigint;
begin
  lock table persona.job_queue in share row exclusive mode;
  delete from persona.job_queue as q
  where not exists (select from persona.jobs as j where j.id = q.job_id and j.status = 'pending');
  insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
  select j.seq, j.id, j.agent, j.priority, j.run_at, j.lock_key,
    case when j.is_external then 'external' else persona._waits_on(j.agent, j.run_at) end
  from persona.jobs as j
  where j.status = 'pending'
  on conflict do nothing;
  get diagnostics v_count = row_count;
  perform persona._count_jobs((select c.counted_xid from persona.activity_cursor as c), true);
  perform persona._wake('*');
  return v_count;
end $$;
comment on function persona.rebuild_queue() is
  'Admin API. Makes job_queue, and the number of jobs, agree with jobs and returns how many entries were missing. Needed after a partial restore; after one of millions of jobs it makes job_summary quick again.';
