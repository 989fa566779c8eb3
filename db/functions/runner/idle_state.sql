-- Is there work that a claim could take, and when will there be some next? No lock is taken: an entry that another
-- transaction holds is skipped by a claim, but it is not absent.
create or replace function persona.idle_state(runner_id uuid)
returns table (claimable boolean, due_in_seconds double precision)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select exists (
      select from persona.runners as r
      cross join lateral persona._open_agents(r.agents) as a
      where r.id = idle_state.runner_id and r.ended_at is null and r.drain_requested_at is null
        and exists (
          select from persona.job_queue as q
          where q.agent = a.name and (q.waits_on is null or (q.waits_on = 'time' and q.run_at <= now())))
        and (a.max_concurrent is null or a.max_concurrent > (
          select count(*) from persona.job_leases as l where l.agent = a.name))),
    (case when d.due_at is not null then greatest(0, extract(epoch from d.due_at - now())) end)::double precision
  from (
    select least(
      (select min(q.run_at) from persona.job_queue as q where q.waits_on = 'time'),
      (select min(l.expires_at) from persona.job_leases as l),
      (select min(g.reopens_at) from persona.gates as g where g.state <> 'open' and g.reopens_at > now()),
      (select min(s.next_due_at) from persona.schedules as s where not s.is_paused)
    ) as due_at) as d;
$$;
comment on function persona.idle_state(uuid) is
  'Runner API. Whether a claim by this runner could find work, and in how many seconds something is due next: a delayed job, the end of a lease, a gate, a schedule. Null: nothing.';
