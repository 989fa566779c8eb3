create or replace function persona._sum_activity(
  p_from bigint, p_to bigint, p_since timestamptz, p_until timestamptz
) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  with happened as materialized (
    select h.* from persona._happened(p_from, p_to, p_since, p_until, interval '1 minute') as h
  ), by_agent as (
    insert into persona.agent_hours as t
    select date_bin('1 hour', h.at, timestamptz '2000-01-01 00:00Z'), h.agent, sum(h.completed), sum(h.jobs_failed)
    from happened as h where h.completed + h.jobs_failed > 0 group by 1, 2
    on conflict (at, agent) do update
    set completed = t.completed + excluded.completed, failed = t.failed + excluded.failed
  )
  insert into persona.activity as t
  select h.at, sum(h.created), sum(h.came), sum(h.completed), sum(h.failed), sum(h.otherwise)
  from happened as h group by 1
  on conflict (at) do update
  set created = t.created + excluded.created, came = t.came + excluded.came,
      completed = t.completed + excluded.completed, failed = t.failed + excluded.failed,
      otherwise = t.otherwise + excluded.otherwise;
  insert into persona.activity_times as t
  select k.* from persona._took(p_from, p_to, p_since, p_until) as k
  on conflict (kind, at, job_type, bin) do update
  set executions = t.executions + excluded.executions, longest = greatest(t.longest, excluded.longest);
end $$;
comment on function persona._sum_activity(bigint, bigint, timestamptz, timestamptz) is
  'Internal. Adds what these records say to activity, agent_hours and activity_times.';
