-- Gates that are due stand half open: one job of each provider may try. Locks those gates that nobody else has
-- locked, and returns an agent for each provider that has something to try it with. Whoever comes meanwhile skips a
-- locked gate, and finds it probing afterwards, because a locked row is tested again after the wait that never comes.
create or replace function persona._lock_probes(p_agents text[]) returns text[]
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_gates text[];
begin
  v_gates := array(
    select g.provider || '/' || g.account
    from (
      select g.provider, g.account from persona.gates as g
      where (g.state = 'closed' and g.reopens_at <= now())
         or (g.state = 'probing' and not exists (
           select from persona.job_leases as l where l.job_id = g.probe_job_id))
      order by g.provider, g.account for no key update skip locked) as g);
  return array(
    select distinct on (o.provider) o.name
    from persona.open_agents as o
    join persona.agents as a on a.name = o.name
    cross join lateral (
      select q.priority, q.run_at, q.seq from persona.job_queue as q
      where q.agent = o.name and q.waits_on is null
      order by q.priority desc, q.run_at, q.seq limit 1) as q
    where o.needs_probe and (p_agents is null or o.name = any(p_agents))
      and not exists (
        select from persona.gates as g
        where g.provider = a.provider and g.account in ('', a.account) and g.state <> 'open'
          and g.provider || '/' || g.account <> all(v_gates))
    order by o.provider, q.priority desc, q.run_at, q.seq);
end $$;
comment on function persona._lock_probes(text[]) is 'Internal. Agents that may start one job each to probe a half-open gate; locks these gates.';
