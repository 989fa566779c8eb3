-- Roles and grants, applied again at every install. PUBLIC may do nothing. All writes go through functions; no
-- table is writable by any but the owner.
--   persona_viewer < persona_client < persona_admin, and persona_runner beside them.
-- What clients and viewers call belongs to persona_definer, which cannot log in and is not the owner of the tables: it
-- is subject to row-level security (policies.sql), as the owner is not. What runners and admins call works for all.
-- Roles belong to the whole cluster and making one takes CREATEROLE. Without it, and where nobody has made them,
-- the schema works for its owner alone; an admin can run this file later.
do $$
declare
  v_role text;
  v_missing text[] := '{}';
begin
  foreach v_role in array array['persona_viewer', 'persona_client', 'persona_admin', 'persona_runner', 'persona_definer'] loop
    if not exists (select from pg_roles as r where r.rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception
        when insufficient_privilege then
          v_missing := v_missing || v_role;
        when duplicate_object or unique_violation then
          null;  -- Another install made it at the same moment.
      end;
    end if;
  end loop;
  if cardinality(v_missing) > 0 then
    raise warning 'roles % do not exist and % may not create them: only the owner can use the queue. A role with CREATEROLE can run db/roles.sql later.',
      array_to_string(v_missing, ', '), current_user;
    return;
  end if;
  begin
    grant persona_viewer to persona_client;
    grant persona_client to persona_admin;
    grant persona_viewer to persona_runner;
  exception when insufficient_privilege then
    if not (pg_has_role('persona_client', 'persona_viewer', 'member')
            and pg_has_role('persona_admin', 'persona_client', 'member')
            and pg_has_role('persona_runner', 'persona_viewer', 'member')) then
      raise warning 'roles exist, but % may not grant them to each other; their creator can run db/roles.sql', current_user;
    end if;
  end;
  -- Without this the functions stay with the installer and everything works, but for tenants.
  if not pg_has_role(current_user, 'persona_definer', 'usage') then
    begin
      grant persona_definer to current_user;
    exception when insufficient_privilege then
      raise warning 'role persona_definer exists, but % may not use it: no tenants until its creator grants it to %', current_user, current_user;
    end;
  end if;
end $$;

revoke all on schema persona from public;
revoke all on all tables in schema persona from public;
revoke all on all sequences in schema persona from public;
revoke all on all functions in schema persona from public;
revoke all on type persona.claimed_job from public;

do $$
declare
  v_grants constant jsonb := '{
    "persona_viewer": [
      "resolve_job", "get_job", "get_job_tree", "explain_job", "get_logs", "tail_logs", "list_jobs", "job_summary", "summary_json",
      "detect_hung_jobs", "get_agent", "list_agents", "schema_version", "protocol_versions",
      "my_tenants", "get_events", "rpc", "rpc_encoded", "list_events", "event_cursor", "watch", "unwatch", "monitor_snapshot",
      "idle_horizon", "is_settled",
      "search_jobs", "get_throughput", "get_waits", "get_durations", "get_executions", "get_failures", "get_costs", "get_metrics",
      "list_budgets"],
    "persona_client": [
      "create_job", "create_jobs", "update_job", "cancel_job", "cancel_pending_jobs", "retry_job", "hold_job",
      "release_job", "answer_job", "acknowledge_alerts", "bridge", "bridge_encoded", "publish_event", "read_events",
      "delete_event",
      "intake_notes", "take_note_answers", "record_note_answer", "note_links", "record_note_link"],
    "persona_runner": [
      "register_runner", "claim_job", "claim_jobs", "heartbeat", "heartbeats", "append_logs", "complete_job",
      "complete_jobs", "give_back_job", "reconcile", "recover_predecessor", "recover_hung_jobs", "deregister_runner",
      "create_child_job", "runner_directive", "idle_horizon", "is_settled", "idle_state", "open_connection", "job_call",
      "tick", "schedules_to_plan", "plan_schedules"],
    "persona_admin": [
      "register_agent", "update_agent", "set_agent_active", "drain_runner", "drain_outdated_runners", "cleanup_old_jobs", "rebuild_queue",
      "set_setting", "recover_hung_jobs", "tick", "import_jobs", "import_logs", "register_job_type",
      "set_alert_rule", "remove_alert_rule", "test_alert", "create_schedule", "update_schedule", "pause_schedule",
      "resume_schedule", "remove_schedule", "schedules_to_plan", "plan_schedules", "open_gate", "close_gate",
      "set_limit", "remove_limit", "set_budget", "remove_budget", "set_failure_policy", "assign_tenant", "restrict_runner"]}';
  v_definer constant boolean := coalesce(pg_has_role(current_user, to_regrole('persona_definer')::oid, 'usage'), false);
  v_role text;
  v_names jsonb;
  v_function regprocedure;
  v_relation regclass;
begin
  if v_definer then
    -- The right to create is needed to be given a function, and at no other time.
    grant usage, create on schema persona to persona_definer;
    for v_function in
      select p.oid::regprocedure from pg_proc as p
      where p.pronamespace = 'persona'::regnamespace and p.prosecdef and p.proname <> 'my_tenants'
        and ((v_grants -> 'persona_viewer') || (v_grants -> 'persona_client')) ? p.proname::text
        and p.proowner <> 'persona_definer'::regrole
    loop
      execute format('alter function %s owner to persona_definer', v_function);
    end loop;
    revoke create on schema persona from persona_definer;
    grant select, insert, update, delete on all tables in schema persona to persona_definer;
    grant usage on all sequences in schema persona to persona_definer;
    for v_function in
      select p.oid::regprocedure from pg_proc as p
      where p.pronamespace = 'persona'::regnamespace and p.proowner <> 'persona_definer'::regrole
    loop
      execute format('grant execute on function %s to persona_definer', v_function);
    end loop;
  end if;
  for v_role, v_names in select g.key, g.value from jsonb_each(v_grants) as g loop
    continue when not exists (select from pg_roles as r where r.rolname = v_role);
    execute format('grant usage on schema persona to %I', v_role);
    for v_function in
      select p.oid::regprocedure from pg_proc as p
      where p.pronamespace = 'persona'::regnamespace and v_names ? p.proname::text
    loop
      execute format('grant execute on function %s to %I', v_function, v_role);
    end loop;
  end loop;
  if exists (select from pg_roles as r where r.rolname = 'persona_viewer') then
    grant select on all tables in schema persona to persona_viewer;
    -- A view shows what its reader may see. Partitions are read through their table, which has the policy.
    for v_relation in
      select c.oid::regclass from pg_class as c
      where c.relnamespace = 'persona'::regnamespace and (c.relkind = 'v' or (c.relispartition and c.relkind in ('r', 'p')))
    loop
      if exists (select from pg_class as c where c.oid = v_relation and c.relispartition) then
        execute format('revoke all on table %s from persona_viewer', v_relation);
      else
        execute format('alter view %s set (security_invoker = true)', v_relation);
      end if;
    end loop;
    -- What a view calls, its reader calls.
    for v_function in
      select distinct p.oid::regprocedure
      from pg_depend as d
      join pg_rewrite as r on r.oid = d.objid
      join pg_proc as p on p.oid = d.refobjid and p.pronamespace = 'persona'::regnamespace
      where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_proc'::regclass
    loop
      execute format('grant execute on function %s to persona_viewer', v_function);
    end loop;
  end if;
  if exists (select from pg_roles as r where r.rolname = 'persona_runner') then
    grant usage on type persona.claimed_job to persona_runner;
  end if;
end $$;
