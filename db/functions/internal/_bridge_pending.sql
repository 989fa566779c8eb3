-- At most 50 waiting jobs. First those that a program outside may start now, under their agent's name. All others
-- belong to runners, or may not start yet: for them assignedTo is null, which the first system's consumer skips.
create or replace function persona._bridge_pending(p_agent text) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  with startable as (
    select q.job_id, 1 as part, row_number() over (order by q.priority desc, q.run_at, q.seq) as n
    from persona.job_queue as q
    where q.waits_on = 'external' and q.run_at <= now() and (p_agent is null or q.agent = p_agent)
    order by q.priority desc, q.run_at, q.seq limit 50
  ), waiting as (
    select q.job_id, 2 as part, row_number() over (order by q.seq) as n
    from persona.job_queue as q
    where not (q.waits_on is not distinct from 'external' and q.run_at <= now())
      and (p_agent is null or q.agent = p_agent)
    order by q.seq limit 50
  ), kept as (
    select j.id as job_id, 3 as part, row_number() over (order by j.id) as n
    from persona.jobs as j
    where j.attention in ('blocked', 'held') and (p_agent is null or j.agent = p_agent)
    order by j.id limit 50
  ), chosen as (
    select c.* from (
      select * from startable union all select * from waiting union all select * from kept) as c
    order by c.part, c.n limit 50
  )
  select jsonb_build_object('jobs', coalesce(jsonb_agg(
    persona._bridge_job(c.job_id, '{id,shortId,type,status,assignedTo,createdAt,payload}')
      || case when c.part = 1 then '{}' else '{"assignedTo": null}'::jsonb end
    order by c.part, c.n), '[]'))
  from chosen as c;
$$;
comment on function persona._bridge_pending(text) is 'Internal. get_pending_jobs of the bridge.';
