-- A running job delegates. Parent, business and delegating agent come from the lease, not from the caller; which
-- agents it may delegate to is on its agent's row, and admin-only agents never.
create or replace function persona.create_child_job(
  runner_id uuid, job_id uuid, lease bigint, job_type text, payload jsonb default '{}', agent text default null,
  id uuid default null, dedupe_key text default null, priority integer default null, tags text[] default null,
  timeout interval default null, max_attempts integer default null
) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_parent persona.jobs;
  v_agent text;
  v_allowed text[];
begin
  select j.* into v_parent
  from persona.job_leases as l
  join persona.jobs as j on j.id = l.job_id
  where l.job_id = create_child_job.job_id and l.lease = create_child_job.lease
    and l.runner_id = create_child_job.runner_id;
  if not found then
    perform persona._lease_lost(create_child_job.runner_id, create_child_job.job_id, create_child_job.lease);
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
  return persona.create_job(
    create_child_job.job_type, create_child_job.payload, v_agent, create_child_job.id,
    coalesce(create_child_job.priority, v_parent.priority), null, create_child_job.timeout, null,
    create_child_job.max_attempts, create_child_job.dedupe_key, null, v_parent.id, null, create_child_job.tags,
    v_parent.source_file, v_parent.source_line, v_parent.agent, v_parent.business);
end $$;
comment on function persona.create_child_job(
  uuid, uuid, bigint, text, jsonb, text, uuid, text, integer, text[], interval, integer) is
  'Runner API. Creates a job below the one that the runner holds under this lease. PJ410, PJ403, PJ422.';
