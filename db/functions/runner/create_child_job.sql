-- A running job delegates. Parent, root, depth, business and delegating agent come from the lease, not from the caller;
-- which agents it may delegate to is on its agent's row, and admin-only agents never.
-- A delegated job has the age of the one above it: it goes before what came later, so that jobs which wait for what
-- they delegated do not pile up. It is new, so that no cycle can arise; a dedupe_key that belongs to a job elsewhere
-- would make one, and is refused, as is the lock key of a job above, which may wait for this one and keeps its key.
create or replace function persona.create_child_job(
  runner_id uuid, job_id uuid, lease bigint, job_type text, payload jsonb default '{}', agent text default null,
  id uuid default null, dedupe_key text default null, priority integer default null, tags text[] default null,
  timeout interval default null, max_attempts integer default null, lock_key text default null,
  on_child_failure text default null
) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_parent persona.jobs;
  v_child persona.jobs;
  v_holder text;
  v_agent text;
  v_allowed text[];
  v_most integer := persona._setting('max_children')::integer;
begin
  perform persona._own_runner(create_child_job.runner_id);
  select j.* into v_parent
  from persona.job_leases as l
  join persona.jobs as j on j.id = l.job_id
  where l.job_id = create_child_job.job_id and l.lease = create_child_job.lease
    and l.runner_id = create_child_job.runner_id;
  if not found then
    perform persona._lease_lost(create_child_job.runner_id, create_child_job.job_id, create_child_job.lease);
  end if;
  if create_child_job.on_child_failure not in ('ignore', 'fail', 'cancel_siblings') then
    perform persona._invalid('on_child_failure', create_child_job.on_child_failure, 'one of ignore, fail, cancel_siblings');
  end if;
  v_agent := coalesce(nullif(create_child_job.agent, ''),
    (select t.default_agent from persona.job_types as t where t.name = create_child_job.job_type));
  select a.may_delegate_to into v_allowed from persona.agents as a where a.name = v_parent.agent;
  if not coalesce(v_agent = any(v_allowed), false)
     or exists (select from persona.agents as a where a.name = v_agent and a.admin_only)
  then
    perform persona._raise('PJ403',
      format('agent %s may not delegate to agent %s', v_parent.agent, coalesce(v_agent, '(none)')),
      jsonb_build_object('agent', v_parent.agent, 'to', v_agent, 'allowed', to_jsonb(v_allowed)),
      'An admin may allow it: may_delegate_to on the agent.');
  end if;
  with recursive above as (
    select j.id, j.short_id, j.lock_key, j.parent_job_id from persona.jobs as j where j.id = v_parent.id
    union all
    select j.id, j.short_id, j.lock_key, j.parent_job_id
    from above as a join persona.jobs as j on j.id = a.parent_job_id
  )
  select a.short_id into v_holder from above as a where a.lock_key = persona._tenant_key(v_parent.business, create_child_job.lock_key) limit 1;
  if found then
    perform persona._invalid('lock_key', create_child_job.lock_key,
      format('job %s above has it until it ends: a job below it could never start', v_holder));
  end if;
  if (select count(*) from persona.jobs as j
      where j.parent_job_id = v_parent.id and j.id is distinct from create_child_job.id) >= v_most
     and not exists (select from persona.jobs as j where j.dedupe_live = persona._tenant_key(v_parent.business, create_child_job.dedupe_key))
  then
    perform persona._raise('PJ403', format('job %s has delegated %s jobs already', v_parent.short_id, v_most),
      jsonb_build_object('id', v_parent.id, 'max_children', v_most),
      'The setting max_children allows no more.');
  end if;
  v_child := persona.create_job(
    create_child_job.job_type, create_child_job.payload, v_agent, create_child_job.id,
    coalesce(create_child_job.priority, v_parent.priority), least(v_parent.run_at, now()), create_child_job.timeout,
    null, create_child_job.max_attempts, create_child_job.dedupe_key, create_child_job.lock_key, v_parent.id, null,
    create_child_job.tags, v_parent.source_file, v_parent.source_line, v_parent.agent, v_parent.business);
  if v_child.parent_job_id is distinct from v_parent.id then
    perform persona._raise('PJ409',
      format('a job that was not delegated by job %s has that id or dedupe_key', v_parent.short_id),
      jsonb_build_object('id', v_parent.id), 'Choose another key.');
  end if;
  if create_child_job.on_child_failure is distinct from v_child.on_failure then
    update persona.jobs as j set on_failure = create_child_job.on_child_failure
    where j.id = v_child.id and j.status not in ('completed', 'failed', 'cancelled')
    returning * into v_child;
  end if;
  return v_child;
end $$;
comment on function persona.create_child_job(
  uuid, uuid, bigint, text, jsonb, text, uuid, text, integer, text[], interval, integer, text, text) is
  'Runner API. Creates a job below the one that the runner holds under this lease; on_child_failure (ignore, fail, cancel_siblings) is what its failure does. PJ410, PJ403, PJ409, PJ422.';
