-- The rows of agent_workload. The last day is summed up already, from the full hour on in which it began; where it is not,
-- and for a tenant, who sees but his own, the view reads it.
create or replace function persona.list_agents() returns setof persona.agent_workload
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
declare
  v_since constant timestamptz := date_bin('1 hour', now() - interval '24 hours', timestamptz '2000-01-01 00:00Z');
begin
  if not persona._is_summed(v_since, interval '1 hour') then
    return query select w.* from persona.agent_workload as w order by w.agent;
    return;
  end if;
  return query
    select a.name, a.is_active, a.is_external, coalesce(w.pending, 0), coalesce(l.running, 0), a.max_concurrent,
      coalesce(d.completed, 0), coalesce(d.failed, 0), a.argv[1], a.description
    from persona.agents as a
    left join (select q.agent, count(*) as pending from persona.job_queue as q group by 1) as w on w.agent = a.name
    left join (select o.agent, count(*) as running from persona.job_leases as o group by 1) as l on l.agent = a.name
    left join (
      select e.agent, sum(e.completed)::bigint as completed, sum(e.failed)::bigint as failed
      from (
        select s.* from persona.agent_hours as s where s.at >= v_since
        union all
        select h.at, h.agent, h.completed, h.jobs_failed from persona.activity_cursor as c
        cross join lateral persona._happened(
          c.counted_xid, 9223372036854775807, c.restored_at, 'infinity', interval '1 hour') as h) as e
      where e.at >= v_since
      group by 1) as d on d.agent = a.name
    order by a.name;
end $$;
comment on function persona.list_agents() is 'Viewer API. All agents with their load.';
