-- Reports of executions that their runner does not hold (any more): the same report again, one that came too late, or
-- one with an outcome that there is not. A late one changes nothing, but is kept as stale_result of its attempt, with
-- what it has cost. p_jobs and p_leases: those whose end has just been written.
-- The switches of the planner are _settle's.
create or replace function persona._settle_late(p_runner_id uuid, p_items jsonb, p_jobs uuid[], p_leases bigint[])
returns table (job_id uuid, lease bigint, status text, result_status text)
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
begin
  return query
    with late as materialized (
      select i.job_id, i.lease, case
          when not coalesce(i.outcome = any(persona._outcomes()), false) then 'invalid'
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
        to_jsonb(i) - 'job_id' - 'lease' as report
      from (
        select distinct on (o.job_id, o.lease) o.*
        from jsonb_to_recordset(p_items) as o (
          job_id uuid, lease bigint, outcome text, exit_code integer, error text, failure_kind text, result jsonb,
          cost_usd numeric, tokens jsonb, session_id text, model text, pid integer, retry_at timestamptz,
          retry_in double precision, is_cumulative_cost boolean)
      ) as i
      left join lateral (
        select o.* from persona.job_attempts as o
        where o.job_id = i.job_id and o.lease = i.lease offset 0) as a on true
      where not exists (
        select from unnest(p_jobs, p_leases) as d (job_id, lease) where d.job_id = i.job_id and d.lease = i.lease)
    ), kept as (
      update persona.job_attempts as a
      set stale_result = t.report, cost_usd = coalesce(t.late_cost, a.cost_usd),
          session_id = coalesce(a.session_id, t.session_id), model = coalesce(a.model, t.model),
          tokens = coalesce(a.tokens, t.tokens)
      from late as t
      where t.status = 'lost' and t.is_new and a.job_id between t.job_id and t.job_id and a.lease = t.lease
    )
    select t.job_id, t.lease, t.status, (select j.status from persona.jobs as j where j.id = t.job_id)
    from late as t;
end $$;
comment on function persona._settle_late(uuid, jsonb, uuid[], bigint[]) is
  'Internal. Answers reports whose lease is not held: repeated, lost or invalid.';
