-- Picks and locks entries of the queue in the order priority, run_at, arrival: the first so many of each agent by
-- its own stretch of the index, so that a long queue of an agent with nothing to give costs nothing.
-- Of entries with a lock key it keeps one a key, and only where no running job has the key; where one has it, it parks
-- them, and they wait for _unpark. An advisory lock on the key orders that against _unpark; it is only ever tried here.
-- What costs money is reserved last, so that nothing is reserved for a job that does not start.
-- What it hands on is where the locked rows are (entries of the queue, rows of jobs), so that the claim need not look
-- them up again. Lock order: entry, then job, both with SKIP LOCKED, so a claim waits for nobody.
-- The switches of the planner are those of claim_jobs, here and in _pick_from_place.
create or replace function persona._pick_jobs(
  p_agents text[], p_limits integer[], p_max integer, out ids uuid[], out entries tid[], out rows tid[],
  out parked boolean, out amounts numeric[])
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_seqs bigint[];
  v_keys text[];
  v_has_keys boolean;
  v_entry record;
  v_dropped bigint[] := array[]::bigint[];
  v_needs_room boolean;
  v_needs_money boolean;
  v_admitted record;
  v_place jsonb := nullif(current_setting('persona.claim_place', true), '')::jsonb;
  v_walked bigint;
begin
  parked := false;
  if v_place is not null then
    v_walked := pg_stat_get_xact_tuples_returned('persona.job_queue_ready_idx'::regclass);
    select p.seqs, p.ids, p.entries, p.has_keys into v_seqs, ids, entries, v_has_keys
    from persona._pick_from_place(v_place, p_agents, p_limits, p_max) as p;
    -- To move the place costs as much as some hundred entries.
    if pg_stat_get_xact_tuples_returned('persona.job_queue_ready_idx'::regclass) - v_walked > 200 + 2 * cardinality(v_seqs) then
      perform persona._remember_place(v_place, v_seqs, null, false);
    end if;
  end if;
  if v_seqs is null then
    v_walked := pg_stat_get_xact_tuples_returned('persona.job_queue_ready_idx'::regclass);
    select array_agg(c.seq), array_agg(c.job_id), array_agg(c.ctid), bool_or(c.lock_key is not null)
    into v_seqs, ids, entries, v_has_keys
    from (
      select e.ctid, e.seq, e.job_id, e.priority, e.run_at, e.lock_key
      from unnest(p_agents, p_limits) as a (name, free)
      cross join lateral (
        select q.ctid, q.seq, q.job_id, q.priority, q.run_at, q.lock_key
        from persona.job_queue as q
        where q.agent = a.name and q.waits_on is null
        order by q.priority desc, q.run_at, q.seq
        limit a.free
        for update skip locked
      ) as e
      order by e.priority desc, e.run_at, e.seq
      limit p_max
    ) as c;
    v_walked := pg_stat_get_xact_tuples_returned('persona.job_queue_ready_idx'::regclass) - v_walked;
    -- With fewer, keeping a place costs more than the walk.
    if v_walked > 2000 + 2 * coalesce(cardinality(v_seqs), 0) then
      perform persona._remember_place(v_place, v_seqs, v_walked, true);
    elsif v_place is not null then
      perform set_config('persona.claim_place', '', false);
    end if;
  end if;

  if v_has_keys then
    v_keys := array[]::text[];
    for v_entry in
      select q.seq, q.lock_key from persona.job_queue as q
      where q.seq = any(v_seqs) and q.lock_key is not null
      order by q.priority desc, q.run_at, q.seq
    loop
      if not pg_try_advisory_xact_lock(hashtext('persona.lock_key'), hashtext(v_entry.lock_key)) then
        v_dropped := v_dropped || v_entry.seq;
      elsif v_entry.lock_key = any(v_keys) then
        -- Not parked yet: the one before it may still turn out to be locked. The next round knows.
        v_dropped := v_dropped || v_entry.seq;
        parked := true;
      elsif exists (select from persona.job_leases as l where l.lock_key = v_entry.lock_key)
      then
        update persona.job_queue as q set waits_on = 'lock' where q.seq = v_entry.seq;
        v_dropped := v_dropped || v_entry.seq;
        parked := true;
      else
        v_keys := v_keys || v_entry.lock_key;
      end if;
    end loop;
    if cardinality(v_dropped) > 0 then
      v_seqs := array(select s.seq from unnest(v_seqs) as s (seq) where s.seq <> all(v_dropped));
      ids := array(select q.job_id from persona.job_queue as q where q.seq = any(v_seqs));
    end if;
  end if;

  -- A job whose row somebody is changing just now is left in the queue.
  -- Money is asked for where there is a budget, or a job has a maximum of its own, or one above it may have one.
  select array_agg(j.id), array_agg(j.seq), array_agg(j.ctid),
    bool_or(j.session_id is not null) or exists (select from persona.limits),
    bool_or(j.max_cost_usd is not null or j.parent_job_id is not null)
      or exists (select from persona.budgets as b where b.is_active)
  into ids, v_seqs, rows, v_needs_room, v_needs_money
  from (
    select j.ctid, j.id, j.seq, j.session_id, j.max_cost_usd, j.parent_job_id from persona.jobs as j
    where j.id = any(ids) and j.status = 'pending' for no key update skip locked
  ) as j;

  if v_needs_room and ids is not null then
    select a.ids, a.seqs, a.parked into v_admitted from persona._admit(ids) as a;
    ids := v_admitted.ids;
    v_seqs := v_admitted.seqs;
    parked := parked or v_admitted.parked;
  end if;

  if v_needs_money and ids is not null then
    select r.ids, r.seqs, r.amounts, r.parked into v_admitted from persona._reserve(ids) as r;
    ids := v_admitted.ids;
    v_seqs := v_admitted.seqs;
    amounts := v_admitted.amounts;
    parked := parked or v_admitted.parked;
  end if;

  -- Nothing that is still in the lists was written since it was locked, so the places of the rows are good.
  if cardinality(v_seqs) < cardinality(entries) then
    entries := array(select q.ctid from persona.job_queue as q where q.seq = any(v_seqs));
  end if;
  if cardinality(ids) < cardinality(rows) then
    rows := array(select j.ctid from persona.jobs as j where j.id = any(ids));
  end if;
end $$;
comment on function persona._pick_jobs(text[], integer[], integer) is
  'Internal. Locks the next claimable jobs of these agents, at most so many of each and in all, with the places of their rows; amounts is what is to be reserved for each (null: no budget asked).';
