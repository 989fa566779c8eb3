-- Executions that ended since the cursor, counted as execution_totals counts. Read with it in one statement, each is in
-- one of both. What was imported ended long ago, and a type that nobody has registered is a text of a client's: there may
-- be as many as there are jobs.
create or replace function persona._fresh_executions(p_from bigint, p_to bigint)
returns setof persona.execution_totals
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_custom_plan as $$
begin
  return query
    select e.agent, e.job_type, e.outcome, e.failure_kind, count(*), sum(e.seconds),
      array[
        count(*) filter (where e.seconds <= 1), count(*) filter (where e.seconds <= 5),
        count(*) filter (where e.seconds <= 15), count(*) filter (where e.seconds <= 60),
        count(*) filter (where e.seconds <= 300), count(*) filter (where e.seconds <= 900),
        count(*) filter (where e.seconds <= 3600), count(*) filter (where e.seconds <= 14400)]
    from (
      select j.agent, coalesce(t.name, 'other') as job_type, a.outcome, coalesce(a.failure_kind, '') as failure_kind,
        extract(epoch from a.ended_at - a.started_at)::double precision as seconds
      from persona.job_attempts as a
      join persona.jobs as j on j.id = a.job_id
      left join persona.job_types as t on t.name = j.job_type
      where a.ended_xid >= p_from and a.ended_xid < p_to and a.ended_at > now() - interval '2 days'
    ) as e
    group by e.agent, e.job_type, e.outcome, e.failure_kind;
end $$;
comment on function persona._fresh_executions(bigint, bigint) is
  'Internal. Counts what ended in transactions from p_from on, below p_to.';
