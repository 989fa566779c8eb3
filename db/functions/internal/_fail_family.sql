-- A delegated job has failed for good, and whoever delegated it said what follows. fail: the job above fails too and
-- what it delegated besides is cancelled; one that does not run just then is cancelled, with the reason.
-- Locks are taken in the order of every writer: jobs by id, then leases.
create or replace function persona._fail_family(p_job_id uuid, p_short_id text, p_parent_job_id uuid, p_policy text)
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_reason text := format('delegated job %s failed', p_short_id);
  v_ids uuid[] := array(
    select t.job_id from persona.get_job_tree(p_parent_job_id) as t
    where t.job_id <> p_job_id and (p_policy = 'fail' or t.depth > 0));
  v_id uuid;
begin
  perform from persona.jobs as j where j.id = any(v_ids) order by j.id for no key update;
  perform from persona.job_leases as l where l.job_id = any(v_ids) order by l.job_id for update;
  for v_id in
    select t.job_id from persona.get_job_tree(p_parent_job_id) as t
    where t.depth > 0 and t.job_id = any(v_ids) and t.status in ('blocked', 'pending', 'running', 'held')
    order by t.depth, t.job_id
  loop
    perform persona._stop_job(v_id, v_reason, false, 'cancelled');
  end loop;
  if p_policy = 'fail' then
    perform persona._stop_job(j.id, v_reason, false, case j.status when 'running' then 'failed' else 'cancelled' end)
    from persona.jobs as j
    where j.id = p_parent_job_id;
  end if;
end $$;
comment on function persona._fail_family(uuid, text, uuid, text) is
  'Internal. Does what jobs.on_failure of a failed job asks for: fail or cancel_siblings.';
