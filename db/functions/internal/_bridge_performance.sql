create or replace function persona._bridge_performance(p_agent text, p_days integer) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_build_object('metrics', coalesce(jsonb_agg(jsonb_build_object(
    'date', m.day, 'agent', m.agent, 'jobsCompleted', m.total, 'successful', m.successful, 'failed', m.total - m.successful,
    'avgDurationSeconds', coalesce(m.mean, 0), 'minDurationSeconds', coalesce(m.least, 0),
    'maxDurationSeconds', coalesce(m.most, 0)) order by m.day desc, m.agent desc), '[]'))
  from (
    select j.completed_at::date as day, j.agent, count(*) as total,
      count(*) filter (where j.status = 'completed') as successful,
      round(avg(d.seconds), 3) as mean, round(min(d.seconds), 3) as least, round(max(d.seconds), 3) as most
    from persona.jobs as j
    cross join lateral (select extract(epoch from j.completed_at - j.started_at) as seconds) as d
    where j.completed_at > now() - make_interval(days => p_days) and j.status in ('completed', 'failed')
      and (p_agent is null or j.agent = p_agent)
    group by 1, 2) as m;
$$;
comment on function persona._bridge_performance(text, integer) is 'Internal. get_agent_daily_performance of the bridge; days are the session''s.';
