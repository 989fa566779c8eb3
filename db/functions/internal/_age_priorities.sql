-- Priorities that do not starve: a job that waits rises in the queue, by one step for each so many seconds, as long as
-- something of a higher priority is there to go before it. jobs.priority stays what it was. Claims know nothing of it
-- and cost what they did: they follow the order of job_queue. Of each agent and priority the oldest are looked at,
-- which the index has in front, so that a long queue costs no more than a short one; more are looked at than rise at
-- once, because what has risen from below stands in front of those that may rise on. Not what waits for a lock key:
-- there the order is the one in which the keys' jobs came to wait. Of many priorities the highest are looked at: what
-- is below comes up when these have become one.
create or replace function persona._age_priorities() returns bigint
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
declare
  c_seen constant integer := 5000;
  c_most constant integer := 500;
  c_levels constant integer := 100;
  v_step double precision := persona._setting('priority_ageing_seconds')::double precision;
  v_since timestamptz := now() - make_interval(secs => v_step);
  v_entry record;
  v_done bigint := 0;
begin
  if coalesce(v_step, 0) <= 0 then
    return 0;
  end if;
  for v_entry in
    with recursive standing as (
      select a.name as agent, n.name as parked_for, persona._next_priority(a.name, n.name, null) as priority, 1 as level
      from persona.agents as a
      cross join (select null as name union all select p.name from persona._parked_names() as p (name)) as n
      union all
      select s.agent, s.parked_for, persona._next_priority(s.agent, s.parked_for, s.priority), s.level + 1
      from standing as s where s.priority is not null and s.level < c_levels
    ), top as (
      select max(s.priority) as priority from standing as s
    )
    select u.seq, u.risen
    from top as t
    join standing as s on s.priority < t.priority
    cross join lateral (
      select e.seq, r.risen
      from (
        (select q.seq, q.job_id, q.run_at from persona.job_queue as q
         where s.parked_for is null and q.waits_on is null
           and q.agent = s.agent and q.priority = s.priority and q.run_at <= v_since
         order by q.priority desc, q.run_at, q.seq limit c_seen)
        union all
        (select q.seq, q.job_id, q.run_at from persona.job_queue as q
         where q.parked_for = s.parked_for and q.waits_on = 'limit'
           and q.agent = s.agent and q.priority = s.priority and q.run_at <= v_since
         order by q.priority desc, q.run_at, q.seq limit c_seen)) as e
      join persona.jobs as j on j.id = e.job_id
      cross join lateral (
        select least(t.priority, j.priority
          + floor(extract(epoch from now() - greatest(e.run_at, j.created_at)) / v_step))::integer as risen) as r
      where r.risen > s.priority
      limit c_most) as u
  loop
    update persona.job_queue as q set priority = v_entry.risen
    where q.seq = any(array(
      select o.seq from persona.job_queue as o
      where o.seq = v_entry.seq and o.priority < v_entry.risen for update skip locked));
    v_done := v_done + found::integer;
  end loop;
  return v_done;
end $$;
comment on function persona._age_priorities() is
  'Internal. Lets entries of the queue that have waited for long rise by the setting priority_ageing_seconds; returns how many.';
