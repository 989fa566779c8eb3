-- The next claimable entries from where this session's last claims got to, instead of from the head of the queue:
-- behind a snapshot that somebody holds open, every entry claimed since then still stands there, dead, and a claim
-- from the head walks over all of them. Only called where one has done that; see _remember_place.
-- A place is kept for each agent and priority. Above and between those all is scanned, so that a higher priority
-- still goes first. What came in behind a place meanwhile (given back, parked, committed late) is found by the next
-- scan from the head: when the time that the place is good for is over, or at once where too little is found here,
-- which is said by an answer of null. So no claim comes back short, or empty, without having seen the head.
create or replace function persona._pick_from_place(
  p_place jsonb, p_agents text[], p_limits integer[], p_max integer,
  out seqs bigint[], out ids uuid[], out entries tid[], out has_keys boolean)
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if coalesce((p_place ->> 'until')::double precision, 0) < extract(epoch from clock_timestamp()) then
    return;
  end if;
  with level as materialized (
    select a.name, a.free, l.priority, l.run_at, l.seq,
      lag(l.priority) over (partition by a.name order by l.priority desc) as above
    from unnest(p_agents, p_limits) as a (name, free)
    left join jsonb_to_recordset(p_place -> 'levels') as l (agent text, priority integer, run_at timestamptz, seq bigint)
      on l.agent = a.name
  )
  select array_agg(c.seq), array_agg(c.job_id), array_agg(c.ctid), bool_or(c.lock_key is not null)
  into seqs, ids, entries, has_keys
  from (
    select e.ctid, e.seq, e.job_id, e.priority, e.run_at, e.lock_key
    from (
      select f.* from level as l
      cross join lateral (
        select q.ctid, q.seq, q.job_id, q.priority, q.run_at, q.lock_key
        from persona.job_queue as q
        where q.agent = l.name and q.waits_on is null and q.priority = l.priority
          and (q.run_at, q.seq) >= (l.run_at, l.seq)
        order by q.priority desc, q.run_at, q.seq limit l.free
        for update skip locked) as f
      union all
      select f.* from level as l
      cross join lateral (
        select q.ctid, q.seq, q.job_id, q.priority, q.run_at, q.lock_key
        from persona.job_queue as q
        where q.agent = l.name and q.waits_on is null and q.priority
          between coalesce(l.priority::bigint + 1, -2147483648) and coalesce(l.above::bigint - 1, 2147483647)
        order by q.priority desc, q.run_at, q.seq limit l.free
        for update skip locked) as f) as e
    order by e.priority desc, e.run_at, e.seq limit p_max) as c;
  if coalesce(cardinality(seqs), 0) < p_max then
    seqs := null;
    ids := null;
    entries := null;
  end if;
end $$;
comment on function persona._pick_from_place(jsonb, text[], integer[], integer) is
  'Internal. Locks the next claimable entries from the place that this session has got to; null where they are too few, or the place is old.';
