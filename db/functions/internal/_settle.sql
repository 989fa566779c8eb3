-- How executions end: the one place where running jobs leave running. For a batch of reports of one lease holder it
-- writes the jobs and the history, and lets go what waited for them. What has completed needs no decision, and most
-- batches hold nothing else; what follows from any other end is for _decide_ends, and what reports an execution that is
-- not held for _settle_late. What a report costs is mostly the start of its statements, so these two are called only
-- where they are needed.
-- The report counts only while its lease is held (P3): by the number and the runner in its row, and by the job, which is
-- locked by being written, in the order of ids. Who takes a lease away has locked the job before, as every writer does:
-- so a lease that is gone by then shows in the job, and what was reserved for it is known when its row is deleted.
-- What is looked up by its key is asked for as a range of one: a plan that was made while a table was empty may read
-- the whole of it later otherwise, at each report, until somebody analyzes the table.
create or replace function persona._settle(p_runner_id uuid, p_items jsonb)
returns table (job_id uuid, lease bigint, status text, result_status text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- Strict: what is missing, or no plain string, is unknown, and not taken for completed.
  v_is_plain boolean := not jsonb_path_exists(p_items, 'strict $[*] ? (
    !(@.outcome == "completed") || (@.outcome == "completed") is unknown || exists (@.is_cumulative_cost))');
  v_has_costs boolean := jsonb_path_exists(p_items, '$[*].cost_usd ? (@ != null)');
  v_ids uuid[];
  v_done record;
  v_then record;
begin
  if not v_is_plain or v_has_costs then
    v_ids := array(select (i.item ->> 'job_id')::uuid from jsonb_array_elements(p_items) as i (item));
  end if;
  if not v_is_plain then
    perform from persona.jobs as j where j.id = any(v_ids) order by j.id for no key update;
  end if;

  with decided as materialized (
    -- Twice in one batch is once. In the order of ids, in which jobs and leases are locked.
    select distinct on (i.job_id, i.lease) i.job_id, i.lease, 'completed' as outcome, i.exit_code, i.result, i.cost_usd,
      i.tokens, i.session_id, i.model, i.pid, i.argv, 'completed' as new_status, null as new_reason, null as new_error,
      null as new_kind, 'completed' as history, null::integer as attempt, true as is_counted,
      null::timestamptz as new_run_at
    from jsonb_to_recordset(p_items) as i (
      job_id uuid, lease bigint, exit_code integer, result jsonb, cost_usd numeric, tokens jsonb, session_id text,
      model text, pid integer, argv text[])
    where v_is_plain
    union all
    select d.* from persona._decide_ends(p_runner_id, p_items) as d where not v_is_plain
  ), written as (
    update persona.jobs as j
    set status = d.new_status, status_reason = d.new_reason, ended_lease = d.lease,
        attempt = case when d.is_counted then j.attempt else greatest(j.attempt - 1, 0) end,
        interruptions = j.interruptions + (d.outcome = 'orphaned')::integer,
        run_at = coalesce(d.new_run_at, j.run_at),
        completed_at = case when d.new_status in ('completed', 'failed', 'cancelled') then now() end,
        exit_code = d.exit_code, error = d.new_error, failure_kind = d.new_kind,
        result = case when d.new_status = 'completed' then d.result else coalesce(d.result, j.result) end,
        pid = coalesce(d.pid, l.pid),
        progress = coalesce(l.progress, j.progress), progress_text = coalesce(l.progress_text, j.progress_text),
        cost_usd = case when d.cost_usd is null then j.cost_usd else coalesce(j.cost_usd, 0) + d.cost_usd end,
        tokens = case when d.tokens is null then j.tokens else persona._add_tokens(j.tokens, d.tokens) end,
        session_id = coalesce(d.session_id, j.session_id), model = coalesce(d.model, j.model),
        cancel_requested_at = case when d.new_status in ('pending', 'held') then null else j.cancel_requested_at end,
        cancel_force = false, stop_as = null,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    from decided as d, persona.job_leases as l
    where l.job_id between d.job_id and d.job_id and l.lease = d.lease and l.runner_id is not distinct from p_runner_id
      and j.id between d.job_id and d.job_id and j.lease = d.lease and j.status = 'running'
    returning d.job_id, d.lease, d.new_status, d.new_kind, d.new_error, d.history, d.is_counted, d.exit_code, d.result,
      d.cost_usd, d.tokens, d.session_id, d.model, coalesce(d.pid, l.pid) as pid, coalesce(d.argv, l.argv) as argv,
      coalesce(d.attempt, j.attempt) as number, j.agent, j.lock_key, j.session_id is not null as is_talk, l.claimed_at,
      l.claimed_xid
  ), freed as (
    delete from persona.job_leases as l
    using written as w
    where l.job_id between w.job_id and w.job_id
    returning w.job_id, w.lease, w.new_status, w.new_kind, w.agent, w.lock_key, w.is_talk, l.reserved_usd
  ), remembered as (
    insert into persona.job_attempts (
      job_id, lease, attempt, is_counted, outcome, runner_id, runner_name, hostname, pid, started_at, started_xid,
      ended_at, ended_xid, exit_code, error, failure_kind, result, cost_usd, tokens, session_id, model, argv)
    select w.job_id, w.lease, w.number, w.is_counted, w.history, p_runner_id,
      (select r.name from persona.runners as r where r.id = p_runner_id),
      (select r.hostname from persona.runners as r where r.id = p_runner_id),
      w.pid, w.claimed_at, w.claimed_xid, now(),
      -- Its default, reckoned once instead of for each row.
      (select pg_current_xact_id()::text::bigint), w.exit_code, w.new_error, w.new_kind,
      case when w.new_status <> 'completed' then w.result end, w.cost_usd, w.tokens, w.session_id, w.model,
      w.argv
    from written as w
  )
  select array_agg(f.job_id) as ids, array_agg(f.lease) as leases, array_agg(f.new_status) as states,
    array_agg(f.reserved_usd) as reserved, bool_or(f.reserved_usd is not null) as had_money,
    bool_or(f.is_talk) as had_conversations, array_agg(distinct f.agent) as agents,
    array_agg(f.lock_key) filter (where f.lock_key is not null) as keys,
    array_agg(f.job_id) filter (where f.new_status in ('completed', 'failed', 'cancelled')) as ended,
    array_agg(f.job_id) filter (where f.new_status = 'failed') as failed,
    array_agg(f.job_id) filter (where f.new_status = 'held' and f.new_kind is not null) as given_up
  into v_done
  from freed as f;

  return query
    select d.job_id, d.lease, 'ok', d.status from unnest(v_done.ids, v_done.leases, v_done.states) as d (job_id, lease, status);
  if jsonb_array_length(p_items) > coalesce(cardinality(v_done.ids), 0) then
    return query
      select l.job_id, l.lease, l.status, l.result_status
      from persona._settle_late(p_runner_id, p_items, v_done.ids, v_done.leases) as l;
  end if;
  if v_has_costs or v_done.had_money then
    perform persona._book(p_items, v_done.ids, v_done.leases, v_done.reserved);
  end if;

  -- What the ended ones let go: most batches have none of this, and one look tells.
  select exists (
      select from persona.job_dependencies as d where d.needs_job_id = any(v_done.ended) and not d.is_settled
    ) as has_dependents,
    exists (select from persona.gates as g where g.probe_job_id = any(v_done.ids)) or not v_is_plain and exists (
      select from persona.jobs as j
      join persona.agents as a on a.name = j.agent and a.provider is not null
      join persona.failure_policies as p on p.kind = j.failure_kind and p.gate <> 'open'
      where j.id = any(v_done.ids)) as concerns_gates,
    v_done.had_conversations or v_done.had_money
      or (v_done.ids is not null and exists (select from persona.limits)) as frees_anybody,
    v_has_costs and exists (select from persona.budgets as b where b.is_active) as concerns_budgets,
    array(
      select a.name from persona.agents as a
      where a.name = any(v_done.agents) and a.max_concurrent is not null) as limited,
    current_setting('transaction_isolation') <> 'read committed' or exists (select from persona.watchers) as is_watched
  into v_then;
  -- Rows of jobs are locked before keys: the order of every writer.
  if v_then.has_dependents then
    perform persona._settle_dependents(v_done.ended);
  end if;
  if v_done.keys is not null then
    perform persona._unpark(v_done.keys);
  end if;
  if v_then.concerns_gates then
    perform persona._settle_gates(p_items, v_done.ids);
  end if;
  if v_done.failed is not null then
    perform persona._raise_alert('job_failed', j.id, format('%s job %s of agent %s failed after %s attempt(s): %s',
      j.job_type, j.short_id, j.agent, j.attempt, left(j.error, 500)))
    from persona.jobs as j
    where j.id = any(v_done.failed);
  end if;
  if v_done.given_up is not null then
    perform persona._raise_alert('job_held', j.id, format('%s job %s of agent %s is held and waits for a person: %s',
      j.job_type, j.short_id, j.agent, j.status_reason))
    from persona.jobs as j
    where j.id = any(v_done.given_up);
  end if;
  if v_then.concerns_budgets then
    perform persona._watch_budgets(v_ids);
  end if;
  if v_then.frees_anybody then
    perform persona._wake('*');
  end if;
  if cardinality(v_then.limited) > 0 then
    perform persona._wake(w.agent) from unnest(v_then.limited) as w (agent);
  end if;
  if v_then.is_watched then
    perform persona._announce(v_done.ids);
  end if;
end $$;
comment on function persona._settle(uuid, jsonb) is
  'Internal. Ends executions; one status an item: ok, repeated, lost or invalid.';
