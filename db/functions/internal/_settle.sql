-- How executions end: the one place where running jobs leave running. For a batch of reports of one lease holder it
-- decides retry or end, writes the jobs, the history, and lets go what waited for them.
-- The report counts only while its lease is held (P3): job and lease are locked first, job before lease. A report
-- repeated after its answer was lost is answered as repeated; one that comes after the lease was lost changes
-- nothing but is kept as stale_result of its attempt.
-- What is looked up by its key is fenced (offset 0) or asked for as a range of one: a plan that was made while a table
-- was empty may read the whole of it later otherwise, at each report, until somebody analyzes the table.
-- outcome: completed; failed, timeout, idle_timeout (what follows is in failure_policies; by default counted attempts,
-- retried while some are left); cancelled, held (a requested stop); rate_limited, given_back, orphaned (not counted).
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
  v_ids uuid[];
  v_held uuid[];
  v_leases bigint[];
  v_reserved numeric[];
  v_rescue_cap integer := persona._setting('rescue_cap')::integer;
  v_ended uuid[];
  v_failed uuid[];
  v_keys text[];
  v_agents text[];
  v_has_refusals boolean;
  v_had_conversations boolean;
  v_had_money boolean;
  v_has_costs boolean;
  v_given_up uuid[];
  v_agent text;
begin
  select coalesce(array_agg(distinct i.job_id), '{}'), bool_or(i.cost_usd is not null) into v_ids, v_has_costs
  from jsonb_to_recordset(p_items) as i (job_id uuid, cost_usd numeric);
  perform from persona.jobs as j where j.id = any(v_ids) order by j.id for no key update;
  -- "is not distinct" keeps the index of runners out: a plan that reads all leases of a runner for one report.
  select coalesce(array_agg(h.job_id), '{}'), array_agg(h.lease), array_agg(h.reserved_usd),
    bool_or(h.reserved_usd is not null)
  into v_held, v_leases, v_reserved, v_had_money
  from (
    select l.job_id, l.lease, l.reserved_usd from persona.job_leases as l
    where l.job_id = any(v_ids) and l.runner_id is not distinct from p_runner_id
    order by l.job_id for update) as h;

  return query
    with item as materialized (
      -- Twice in one batch is once.
      select distinct on (i.job_id, i.lease) i.*, i.outcome in (
          'completed', 'failed', 'timeout', 'idle_timeout', 'cancelled', 'held', 'rate_limited', 'given_back',
          'orphaned') as is_known
      from jsonb_to_recordset(p_items) as i (
        job_id uuid, lease bigint, outcome text, exit_code integer, error text, failure_kind text, result jsonb,
        cost_usd numeric, tokens jsonb, session_id text, model text, pid integer, retry_at timestamptz, retry_in double precision,
        is_cumulative_cost boolean, argv text[])
    ), current as (
      select i.job_id, i.lease, i.outcome, i.exit_code, i.error, i.failure_kind, i.result, i.tokens,
        i.session_id, i.model, coalesce(i.pid, l.pid) as pid, coalesce(i.argv, l.argv) as argv,
        coalesce(now() + make_interval(secs => i.retry_in), i.retry_at) as retry_at,
        -- Some programs report the cost of the whole conversation: only what is new is booked.
        case when i.is_cumulative_cost then greatest(0, i.cost_usd - (
            select coalesce(sum(t.cost_usd), 0) from persona.job_attempts as t
            where t.job_id = i.job_id and t.session_id = i.session_id))
          else i.cost_usd end as cost_usd,
        -- What a person has asked for comes first, and it may have waited for long enough.
        case when j.cancel_requested_at is null and not l.is_external
            and (i.outcome = 'rate_limited' or p.action = 'wait')
          then persona._waited_out(i.job_id) end as given_up,
        j.attempt, j.max_attempts, j.interruptions, j.agent, j.lock_key, j.cancel_reason, j.status_reason, j.stop_as,
        l.claimed_at, l.claimed_xid, l.progress, l.progress_text, l.is_external, p.action, p.wait,
        -- The gate keeps it from starting, and it keeps its place before what came later.
        coalesce(p.gate <> 'open' and a.provider is not null, false) as is_gated,
        case
          when i.outcome = 'completed' then 'completed'
          when j.cancel_requested_at is not null then coalesce(j.stop_as, 'cancelled')
          when i.outcome in ('cancelled', 'held') then i.outcome
          when i.outcome in ('rate_limited', 'given_back') then 'pending'
          when a.is_external and i.outcome = 'orphaned' then 'failed'
          -- Whoever drives a job from outside decides about another attempt, and a lost driver may still be at it.
          when l.is_external then 'failed'
          when i.outcome = 'orphaned' then
            case when j.interruptions + 1 >= v_rescue_cap then 'failed' else 'pending' end
          when p.action = 'wait' then 'pending'
          when p.action = 'hold' then 'held'
          when p.action = 'fail' then 'failed'
          when j.attempt < j.max_attempts then 'pending'
          else 'failed'
        end as asked_status,
        -- An interrupted execution gives its number back; so does one that was held.
        i.outcome in ('completed', 'failed', 'timeout', 'idle_timeout', 'cancelled')
          and (i.outcome in ('completed', 'cancelled') or coalesce(p.action not in ('wait', 'hold'), true))
          and not (j.cancel_requested_at is not null and j.stop_as = 'held' and i.outcome <> 'completed') as is_counted
      from item as i
      cross join lateral (
        select o.* from persona.job_leases as o
        where o.job_id = i.job_id and o.lease = i.lease and o.runner_id is not distinct from p_runner_id offset 0) as l
      cross join lateral (
        select o.* from persona.jobs as o where o.id = i.job_id and o.status = 'running' offset 0) as j
      left join persona.agents as a on a.name = j.agent
      -- Whoever drives a job from outside decides itself what a failure leads to.
      left join persona.failure_policies as p
        on p.kind = coalesce(i.failure_kind, case i.outcome when 'failed' then 'unknown' else i.outcome end)
        and i.outcome in ('failed', 'timeout', 'idle_timeout', 'rate_limited') and not l.is_external
      where i.is_known and i.job_id = any(v_held)
    ), decided as materialized (
      select c.*, case
          when c.new_status in ('cancelled', 'held') then c.new_status
          else c.outcome
        end as attempt_outcome,
        case
          when c.new_status = 'completed' then null
          when c.new_status = 'cancelled' then coalesce(c.cancel_reason, c.error, 'cancelled')
          when c.new_status = 'held' then c.error
          -- Stopped because something that it delegated failed.
          when c.new_status = 'failed' and c.stop_as = 'failed' then coalesce(c.cancel_reason, c.error)
          when c.new_status = 'failed' and c.outcome = 'orphaned' then
            case when c.interruptions + 1 >= v_rescue_cap and not c.is_external
              then format('orphaned %s times', c.interruptions + 1) else 'driver lost' end
          else coalesce(c.error, case
            when c.exit_code is not null then format('exit code %s', c.exit_code)
            else replace(c.outcome, '_', ' ') end)
        end as new_error,
        case
          when c.new_status = 'completed' then null
          when c.new_status = 'cancelled' then 'cancelled'
          when c.new_status = 'held' and c.action is distinct from 'hold' and c.given_up is null then null
          when c.new_status = 'failed' and c.stop_as = 'failed' then 'child_failed'
          else coalesce(c.failure_kind, case c.outcome when 'failed' then 'unknown' else c.outcome end)
        end as new_kind
      from (
        select o.*, case when o.given_up is null then o.asked_status else 'held' end as new_status
        from current as o) as c
    ), written as (
      update persona.jobs as j
      set status = d.new_status, ended_lease = d.lease,
          status_reason = case d.new_status
            when 'held' then coalesce(d.cancel_reason, d.status_reason,
              case when d.action = 'hold' or d.given_up is not null then left(concat_ws(': ',
                d.given_up, replace(d.new_kind, '_', ' '), d.new_error), 200) end)
            when 'pending' then left(format('%s: %s', replace(d.outcome, '_', ' '), d.new_error), 200)
          end,
          attempt = case when d.is_counted then j.attempt else greatest(j.attempt - 1, 0) end,
          interruptions = j.interruptions + (d.outcome = 'orphaned')::integer,
          run_at = case
            when d.new_status <> 'pending' or d.outcome in ('given_back', 'orphaned') then j.run_at
            when d.is_gated then j.run_at
            when d.outcome = 'rate_limited' or d.action = 'wait' then coalesce(d.retry_at, now() + coalesce(
              d.wait, make_interval(secs => persona._setting('rate_limit_wait_seconds')::double precision)))
            else greatest(coalesce(d.retry_at, '-infinity'), now() + persona._retry_delay(d.attempt))
          end,
          completed_at = case when d.new_status in ('completed', 'failed', 'cancelled') then now() end,
          exit_code = d.exit_code, error = d.new_error, failure_kind = d.new_kind,
          result = case when d.new_status = 'completed' then d.result else coalesce(d.result, j.result) end, pid = d.pid,
          progress = coalesce(d.progress, j.progress), progress_text = coalesce(d.progress_text, j.progress_text),
          cost_usd = case when d.cost_usd is null then j.cost_usd else coalesce(j.cost_usd, 0) + d.cost_usd end,
          tokens = case when d.tokens is null then j.tokens else persona._add_tokens(j.tokens, d.tokens) end,
          session_id = coalesce(d.session_id, j.session_id), model = coalesce(d.model, j.model),
          cancel_requested_at = case when d.new_status in ('pending', 'held') then null else j.cancel_requested_at end,
          cancel_force = false, stop_as = null,
          updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
      from decided as d
      where j.id between d.job_id and d.job_id
    ), freed as (
      delete from persona.job_leases as l where l.job_id = any(array(select d.job_id from decided as d))
    ), remembered as (
      insert into persona.job_attempts (
        job_id, lease, attempt, is_counted, outcome, runner_id, runner_name, hostname, pid, started_at,
        started_xid, ended_at, exit_code, error, failure_kind, result, cost_usd, tokens, session_id, model, argv)
      select d.job_id, d.lease, d.attempt, d.is_counted, d.attempt_outcome, p_runner_id, r.name, r.hostname, d.pid,
        d.claimed_at, d.claimed_xid, now(), d.exit_code, d.new_error, d.new_kind,
        case when d.new_status <> 'completed' then d.result end, d.cost_usd, d.tokens, d.session_id, d.model,
        d.argv
      from decided as d
      left join persona.runners as r on r.id = p_runner_id
    ), late as (
      -- Not held: the same report again, or one that came too late.
      select i.job_id, i.lease, case
          when not coalesce(i.is_known, false) then 'invalid'
          when a.job_id is not null and a.outcome = i.outcome and a.runner_id = p_runner_id then 'repeated'
          when a.job_id is not null and a.outcome in ('cancelled', 'held') and a.runner_id = p_runner_id
            and i.outcome <> 'completed' and a.exit_code is not distinct from i.exit_code then 'repeated'
          else 'lost'
        end as status,
        a.job_id is not null and a.runner_id = p_runner_id and a.stale_result is null as is_new,
        case when a.cost_usd is not null then null
          when i.is_cumulative_cost then greatest(0, i.cost_usd - (
            select coalesce(sum(o.cost_usd), 0) from persona.job_attempts as o
            where o.job_id = i.job_id and o.session_id = i.session_id))
          else i.cost_usd end as late_cost, i.model, i.tokens, i.session_id,
        to_jsonb(i) - 'is_known' - 'job_id' - 'lease' - 'argv' as report
      from item as i
      left join lateral (
        select o.job_id from persona.job_leases as o
        where o.job_id = i.job_id and o.lease = i.lease and o.runner_id is not distinct from p_runner_id offset 0
      ) as l on true
      left join lateral (
        select o.* from persona.job_attempts as o
        where l.job_id is null and o.job_id = i.job_id and o.lease = i.lease offset 0) as a on true
      where l.job_id is null or not coalesce(i.is_known, false)
    ), kept as (
      update persona.job_attempts as a
      set stale_result = t.report, cost_usd = coalesce(t.late_cost, a.cost_usd),
          session_id = coalesce(a.session_id, t.session_id), model = coalesce(a.model, t.model),
          tokens = coalesce(a.tokens, t.tokens)
      from late as t
      where t.status = 'lost' and t.is_new and a.job_id between t.job_id and t.job_id and a.lease = t.lease
    )
    select d.job_id, d.lease, 'ok', d.new_status from decided as d
    union all
    select t.job_id, t.lease, t.status, (select j.status from persona.jobs as j where j.id = t.job_id)
    from late as t;

  if v_has_costs or v_had_money then
    perform persona._book(p_items, v_held, v_leases, v_reserved);
  end if;

  -- What the ended ones let go. Most batches have none of this: three look-ups by key.
  select array_agg(j.id) filter (where j.status in ('completed', 'failed', 'cancelled')),
    array_agg(j.id) filter (where j.status = 'failed' and j.completed_at = now()),
    array_agg(j.lock_key) filter (where j.lock_key is not null),
    array_agg(distinct j.agent) filter (where a.max_concurrent is not null),
    bool_or(p.gate <> 'open' and a.provider is not null), bool_or(j.session_id is not null),
    array_agg(j.id) filter (where j.status = 'held' and j.failure_kind is not null)
  into v_ended, v_failed, v_keys, v_agents, v_has_refusals, v_had_conversations, v_given_up
  from persona.jobs as j
  left join persona.agents as a on a.name = j.agent
  left join persona.failure_policies as p on p.kind = j.failure_kind
  where j.id = any(v_held) and j.status <> 'running';

  -- Rows of jobs are locked before keys: the order of every writer.
  if exists (
    select from persona.job_dependencies as d where d.needs_job_id = any(v_ended) and not d.is_settled)
  then
    perform persona._settle_dependents(v_ended);
  end if;
  if v_keys is not null then
    perform persona._unpark(v_keys);
  end if;
  if v_has_refusals or exists (select from persona.gates as g where g.probe_job_id = any(v_held)) then
    perform persona._settle_gates(p_items, v_held);
  end if;
  if v_failed is not null then
    perform persona._raise_alert('job_failed', j.id, format('%s job %s of agent %s failed after %s attempt(s): %s',
      j.job_type, j.short_id, j.agent, j.attempt, left(j.error, 500)))
    from persona.jobs as j
    where j.id = any(v_failed);
  end if;
  if v_given_up is not null then
    perform persona._raise_alert('job_held', j.id, format('%s job %s of agent %s is held and waits for a person: %s',
      j.job_type, j.short_id, j.agent, j.status_reason))
    from persona.jobs as j
    where j.id = any(v_given_up);
  end if;
  if v_has_costs then
    if exists (select from persona.budgets as b where b.is_active) then
      perform persona._watch_budgets(v_ids);
    end if;
  end if;
  if v_had_conversations or v_had_money or (cardinality(v_held) > 0 and exists (select from persona.limits)) then
    perform persona._wake('*');
  end if;
  foreach v_agent in array coalesce(v_agents, '{}') loop
    perform persona._wake(v_agent);
  end loop;
  perform persona._announce(v_held);
end $$;
comment on function persona._settle(uuid, jsonb) is
  'Internal. Ends executions; one status an item: ok, repeated, lost or invalid.';
