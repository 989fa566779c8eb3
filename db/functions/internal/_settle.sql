-- How executions end: the one place where running jobs leave running. For a batch of reports of one lease holder it
-- writes the jobs and the history, and lets go what waited for them. What has completed needs no decision, and most
-- batches hold nothing else; what follows from any other end is for _decide_ends, and what reports an execution that is
-- not held for _settle_late. What a report costs is mostly the start of its statements, so these two are called only
-- where they are needed.
-- The report counts only while its lease is held (P3): the row of the lease is deleted by its number and its runner,
-- and only what was deleted is written. Jobs are locked before leases, as every writer does.
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
  v_given record;
  v_done record;
  v_then record;
begin
  select count(*) as n, array_agg(i.job_id) as ids, bool_or(i.cost_usd is not null) as has_costs,
    bool_and(i.outcome = 'completed' and i.is_cumulative_cost is not true) is true as is_plain
  into v_given
  from jsonb_to_recordset(p_items) as i (job_id uuid, outcome text, cost_usd numeric, is_cumulative_cost boolean);
  perform from persona.jobs as j where j.id = any(v_given.ids) order by j.id for no key update;

  with decided as materialized (
    -- Twice in one batch is once. In the order of ids, in which the leases are locked.
    select distinct on (i.job_id, i.lease) i.job_id, i.lease, 'completed' as outcome, i.exit_code, i.result, i.cost_usd,
      i.tokens, i.session_id, i.model, i.pid, i.argv, 'completed' as new_status, null as new_reason, null as new_error,
      null as new_kind, 'completed' as history, null::integer as attempt, true as is_counted,
      null::timestamptz as new_run_at
    from jsonb_to_recordset(p_items) as i (
      job_id uuid, lease bigint, exit_code integer, result jsonb, cost_usd numeric, tokens jsonb, session_id text,
      model text, pid integer, argv text[])
    where v_given.is_plain
    union all
    select d.* from persona._decide_ends(p_runner_id, p_items) as d where not v_given.is_plain
  ), freed as (
    delete from persona.job_leases as l
    using decided as d
    where l.job_id between d.job_id and d.job_id and l.lease = d.lease and l.runner_id is not distinct from p_runner_id
    returning d.job_id, d.lease, d.outcome, d.exit_code, d.result, d.cost_usd, d.tokens, d.session_id, d.model,
      coalesce(d.pid, l.pid) as pid, coalesce(d.argv, l.argv) as argv, d.new_status, d.new_reason, d.new_error,
      d.new_kind, d.history, d.attempt, d.is_counted, d.new_run_at, l.claimed_at, l.claimed_xid, l.progress, l.progress_text, l.reserved_usd
  ), written as (
    update persona.jobs as j
    set status = f.new_status, status_reason = f.new_reason, ended_lease = f.lease,
        attempt = case when f.is_counted then j.attempt else greatest(j.attempt - 1, 0) end,
        interruptions = j.interruptions + (f.outcome = 'orphaned')::integer,
        run_at = coalesce(f.new_run_at, j.run_at),
        completed_at = case when f.new_status in ('completed', 'failed', 'cancelled') then now() end,
        exit_code = f.exit_code, error = f.new_error, failure_kind = f.new_kind,
        result = case when f.new_status = 'completed' then f.result else coalesce(f.result, j.result) end, pid = f.pid,
        progress = coalesce(f.progress, j.progress), progress_text = coalesce(f.progress_text, j.progress_text),
        cost_usd = case when f.cost_usd is null then j.cost_usd else coalesce(j.cost_usd, 0) + f.cost_usd end,
        tokens = case when f.tokens is null then j.tokens else persona._add_tokens(j.tokens, f.tokens) end,
        session_id = coalesce(f.session_id, j.session_id), model = coalesce(f.model, j.model),
        cancel_requested_at = case when f.new_status in ('pending', 'held') then null else j.cancel_requested_at end,
        cancel_force = false, stop_as = null,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    from freed as f
    where j.id between f.job_id and f.job_id
    returning f.*, coalesce(f.attempt, j.attempt) as number, j.agent, j.lock_key, j.session_id is not null as is_talk
  ), remembered as (
    insert into persona.job_attempts (
      job_id, lease, attempt, is_counted, outcome, runner_id, runner_name, hostname, pid, started_at,
      started_xid, ended_at, exit_code, error, failure_kind, result, cost_usd, tokens, session_id, model, argv)
    select w.job_id, w.lease, w.number, w.is_counted, w.history, p_runner_id, r.name, r.hostname, w.pid,
      w.claimed_at, w.claimed_xid, now(), w.exit_code, w.new_error, w.new_kind,
      case when w.new_status <> 'completed' then w.result end, w.cost_usd, w.tokens, w.session_id, w.model, w.argv
    from written as w
    left join persona.runners as r on r.id = p_runner_id
  )
  select array_agg(w.job_id) as ids, array_agg(w.lease) as leases, array_agg(w.new_status) as states,
    array_agg(w.reserved_usd) as reserved, bool_or(w.reserved_usd is not null) as had_money,
    bool_or(w.is_talk) as had_conversations, array_agg(distinct w.agent) as agents,
    array_agg(w.lock_key) filter (where w.lock_key is not null) as keys,
    array_agg(w.job_id) filter (where w.new_status in ('completed', 'failed', 'cancelled')) as ended,
    array_agg(w.job_id) filter (where w.new_status = 'failed') as failed,
    array_agg(w.job_id) filter (where w.new_status = 'held' and w.new_kind is not null) as given_up
  into v_done
  from written as w;

  return query
    select d.job_id, d.lease, 'ok', d.status from unnest(v_done.ids, v_done.leases, v_done.states) as d (job_id, lease, status);
  if v_given.n > coalesce(cardinality(v_done.ids), 0) then
    return query
      select l.job_id, l.lease, l.status, l.result_status
      from persona._settle_late(p_runner_id, p_items, v_done.ids, v_done.leases) as l;
  end if;
  if v_given.has_costs or v_done.had_money then
    perform persona._book(p_items, v_done.ids, v_done.leases, v_done.reserved);
  end if;

  -- What the ended ones let go: most batches have none of this, and one look tells.
  select exists (
      select from persona.job_dependencies as d where d.needs_job_id = any(v_done.ended) and not d.is_settled
    ) as has_dependents,
    exists (select from persona.gates as g where g.probe_job_id = any(v_done.ids)) or not v_given.is_plain and exists (
      select from persona.jobs as j
      join persona.agents as a on a.name = j.agent and a.provider is not null
      join persona.failure_policies as p on p.kind = j.failure_kind and p.gate <> 'open'
      where j.id = any(v_done.ids)) as concerns_gates,
    v_done.had_conversations or v_done.had_money
      or (v_done.ids is not null and exists (select from persona.limits)) as frees_anybody,
    v_given.has_costs and exists (select from persona.budgets as b where b.is_active) as concerns_budgets,
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
    perform persona._watch_budgets(v_given.ids);
  end if;
  if v_then.frees_anybody then
    perform persona._wake('*');
  end if;
  perform persona._wake(w.agent) from unnest(v_then.limited) as w (agent);
  if v_then.is_watched then
    perform persona._announce(v_done.ids);
  end if;
end $$;
comment on function persona._settle(uuid, jsonb) is
  'Internal. Ends executions; one status an item: ok, repeated, lost or invalid.';
