-- What follows from executions that ended otherwise than completed: retry, wait, hold or end, whether it counts as an
-- attempt, and what the history says of it. Decided by failure_policies, by what a person has asked for, by the number
-- of attempts, and for jobs that are driven from outside by their driver. Jobs and leases are locked by the caller.
-- Stable: it decides by what the statement that writes the decisions sees. The switches of the planner are _settle's.
-- outcome: completed; failed, timeout, idle_timeout (what follows is in failure_policies; by default counted attempts,
-- retried while some are left); cancelled, held (a requested stop); rate_limited, given_back, orphaned (not counted).
create or replace function persona._decide_ends(p_runner_id uuid, p_items jsonb) returns table (
  job_id uuid, lease bigint, outcome text, exit_code integer, result jsonb, cost_usd numeric, tokens jsonb, session_id text,
  model text, pid integer, argv text[], new_status text, new_reason text, new_error text, new_kind text, history text,
  attempt integer, is_counted boolean, new_run_at timestamptz)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_rescue_cap integer := persona._setting('rescue_cap')::integer;
begin
  return query
    with item as materialized (
      -- Twice in one batch is once.
      select distinct on (i.job_id, i.lease) i.*
      from jsonb_to_recordset(p_items) as i (
        job_id uuid, lease bigint, outcome text, exit_code integer, error text, failure_kind text, result jsonb,
        cost_usd numeric, tokens jsonb, session_id text, model text, pid integer, retry_at timestamptz, retry_in double precision,
        is_cumulative_cost boolean, argv text[])
      where i.outcome = any(persona._outcomes())
    ), current as (
      select i.job_id, i.lease, i.outcome, i.exit_code, i.error, i.failure_kind, i.result, i.tokens,
        i.session_id, i.model, i.pid, i.argv,
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
        j.attempt, j.max_attempts, j.interruptions, j.cancel_requested_at, j.cancel_reason, j.status_reason, j.stop_as,
        l.is_external, p.action, p.wait,
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
        end as asked_status
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
    ), ended as (
      select c.*,
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
    )
    select e.job_id, e.lease, e.outcome, e.exit_code, e.result, e.cost_usd, e.tokens, e.session_id, e.model, e.pid,
      e.argv, e.new_status,
      case e.new_status
        when 'held' then coalesce(e.cancel_reason, e.status_reason,
          case when e.action = 'hold' or e.given_up is not null then left(concat_ws(': ',
            e.given_up, replace(e.new_kind, '_', ' '), e.new_error), 200) end)
        when 'pending' then left(format('%s: %s', replace(e.outcome, '_', ' '), e.new_error), 200)
      end,
      e.new_error, e.new_kind,
      case when e.new_status in ('cancelled', 'held') then e.new_status else e.outcome end,
      e.attempt,
      -- An interrupted execution gives its number back; so does one that was held.
      e.outcome in ('completed', 'failed', 'timeout', 'idle_timeout', 'cancelled')
        and (e.outcome in ('completed', 'cancelled') or coalesce(e.action not in ('wait', 'hold'), true))
        and not (e.cancel_requested_at is not null and e.stop_as = 'held' and e.outcome <> 'completed'),
      case
        when e.new_status <> 'pending' or e.outcome in ('given_back', 'orphaned') or e.is_gated then null
        when e.outcome = 'rate_limited' or e.action = 'wait' then coalesce(e.retry_at, now() + coalesce(
          e.wait, make_interval(secs => persona._setting('rate_limit_wait_seconds')::double precision)))
        else greatest(coalesce(e.retry_at, '-infinity'), now() + persona._retry_delay(e.attempt))
      end
    from ended as e;
end $$;
comment on function persona._decide_ends(uuid, jsonb) is
  'Internal. What becomes of jobs whose executions ended in these ways; those whose lease the runner does not hold are left out.';
