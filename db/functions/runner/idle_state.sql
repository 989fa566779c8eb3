-- Is there work that a claim could take, and when will there be some next? No lock is taken: an entry that another
-- transaction holds is skipped by a claim, but it is not absent.
create or replace function persona.idle_state(runner_id uuid)
returns table (claimable boolean, due_in_seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_due_at timestamptz;
  -- The claim before this has written it.
  v_resume_at timestamptz := (select t.resume_at from persona.server_timeline as t where t.resume_at > now());
  -- What is parked for a limit that has room; the next claim lets it go.
  v_parked text[] := array(select n.name from persona._parked_names() as n (name));
  v_open text[] := array(
    select n.name from unnest(v_parked) as n (name) where coalesce(persona._limit_room(n.name), 1) > 0);
  v_has_parked boolean := exists (select from unnest(v_parked) as n (name) where n.name like 'budget:%');
begin
  perform persona._own_runner(idle_state.runner_id);
  select v_resume_at is null and coalesce(persona._limit_room('total'), 1) > 0 and exists (
    select from persona.runners as r
    join persona.open_agents as a on r.agents is null or a.name = any(r.agents)
    where r.id = idle_state.runner_id and r.ended_at is null and r.drain_requested_at is null
      -- Not exists: that may be answered from a hash of the whole queue.
      and coalesce(
        (select true from persona.job_queue as q where q.agent = a.name and q.waits_on is null limit 1),
        (select true from persona.job_queue as q
         where q.waits_on = 'time' and q.run_at <= now() and q.agent = a.name limit 1),
        cardinality(v_open) > 0 and (
          select true from persona.job_queue as q
          where q.waits_on = 'limit' and q.parked_for = any(v_open) and q.agent = a.name limit 1))
      and (a.max_concurrent is null or a.max_concurrent > (
        select count(*) from persona.job_leases as l where l.agent = a.name)))
  into claimable;
  v_due_at := least(
    v_resume_at,
    (select min(q.run_at) from persona.job_queue as q where q.waits_on = 'time'),
    (select min(l.expires_at) from persona.job_leases as l),
    -- Money that comes with the next period, where something waits for money.
    (select min(persona._period_end(b.period)) from persona.budgets as b
     where b.is_active and (exists (select from persona.budget_holds) or v_has_parked)),
    (select min(g.reopens_at) from persona.gates as g where g.state <> 'open' and g.reopens_at > now()),
    (select min(coalesce(s.next_due_at, now())) from persona.schedules as s where not s.is_paused and not s.is_done));
  if v_due_at is not null then
    due_in_seconds := greatest(0, extract(epoch from v_due_at - now()));
  end if;
  return next;
end $$;
comment on function persona.idle_state(uuid) is
  'Runner API. Whether a claim by this runner could find work, and in how many seconds something is due next: a delayed job, the end of a lease, a gate, a budget, a schedule. Null: nothing.';
