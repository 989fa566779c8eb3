-- Cancels a job and, unless told otherwise, the unfinished jobs delegated below it.
-- A running one is only marked: its runner is told, kills the process tree and reports. Where the lease has run out
-- nobody is left to tell, and the runner that held it has killed the tree by now.
create or replace function persona.cancel_job(
  ref text, reason text default null, force boolean default false, tree boolean default true
) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_id uuid := persona.resolve_job(cancel_job.ref);
  v_ids uuid[] := array[v_id];
  v_job persona.jobs;
  v_below uuid;
begin
  if cancel_job.tree then
    v_ids := array(select t.job_id from persona.get_job_tree(v_id) as t);
  end if;
  -- All of the tree is locked at first, in the order of every writer: jobs by id, then leases, then keys.
  perform from persona.jobs as j where j.id = any(v_ids) order by j.id for no key update;
  perform from persona.job_leases as l where l.job_id = any(v_ids) order by l.job_id for update;
  perform persona._lock_keys(array(
    select j.lock_key from persona.jobs as j where j.id = any(v_ids) and j.lock_key is not null));
  v_job := persona._lock_job(v_id::text);
  if v_job.status in ('completed', 'failed') then
    perform persona._raise('PJ423',
      format('job %s has ended (%s) and cannot be cancelled', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'cancelled'), null);
  end if;
  if cancel_job.tree then
    for v_below in
      select t.job_id from persona.get_job_tree(v_job.id) as t
      where t.depth > 0 and t.status in ('blocked', 'pending', 'running', 'held')
      order by t.depth, t.job_id
    loop
      perform persona._stop_job(v_below, coalesce(cancel_job.reason, format('job %s above it was cancelled', v_job.short_id)),
        coalesce(cancel_job.force, false), 'cancelled');
    end loop;
  end if;
  return persona._stop_job(v_job.id, cancel_job.reason, coalesce(cancel_job.force, false), 'cancelled');
end $$;
comment on function persona.cancel_job(text, text, boolean, boolean) is
  'Client API. Cancels an unfinished job and the tree below it. A running job stays running until its runner has killed the processes; force skips the grace. Cancelling twice is harmless. PJ404, PJ423.';
