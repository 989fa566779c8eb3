-- Which of these locked jobs may spend what they are expected to cost, in their order, so that all that is booked and
-- reserved never passes a budget: the buckets are locked first (tried only: what somebody else is just reckoning with
-- is left for later), then added up in a later statement, which sees all that was committed before.
-- A job that finds no room because of what is reserved is parked until that has been booked or given back. One that
-- the budget has no room for at all is held, and the budget named; it comes back with the next period, or with more.
create or replace function persona._reserve(
  p_ids uuid[], out ids uuid[], out seqs bigint[], out amounts numeric[], out parked boolean)
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_key text;
  v_job record;
  v_bucket record;
  v_locked text[] := array[]::text[];
  v_rooms numeric[] := array[]::numeric[];
  v_lasts numeric[] := array[]::numeric[];
  v_at integer;
  v_late text;
  v_never text;
  v_is_free boolean;
begin
  parked := false;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform persona._raise('PJ422',
      format('claims under a budget need READ COMMITTED, this is %s', current_setting('transaction_isolation')), null,
      'An older snapshot does not see what others have reserved.');
  end if;
  for v_key in
    select distinct b.bucket
    from persona.jobs as j
    cross join lateral persona._buckets(j) as b
    where j.id = any(p_ids) order by b.bucket
  loop
    if pg_try_advisory_xact_lock(hashtext('persona.budget'), hashtext(v_key)) then
      v_locked := v_locked || v_key;
    end if;
  end loop;
  foreach v_key in array v_locked loop
    select b.limit_usd - m.booked - m.reserved as room, b.limit_usd - m.booked - m.lent as last into v_bucket
    from persona._bucket(v_key) as b
    cross join lateral persona._money_of(b.scope, b.subject, b.period) as m;
    v_rooms := v_rooms || coalesce(v_bucket.room, 'infinity');
    v_lasts := v_lasts || coalesce(v_bucket.last, 'infinity');
  end loop;

  for v_job in
    select j.id, j.seq, persona._cost_ahead(j) as needed,
      array(select b.bucket from persona._buckets(j) as b order by b.bucket) as buckets
    from persona.jobs as j
    join persona.job_queue as q on q.seq = j.seq
    where j.id = any(p_ids)
    order by q.priority desc, q.run_at, q.seq
  loop
    v_late := null;
    v_never := null;
    v_is_free := v_job.needed is null;
    continue when not v_is_free and not v_job.buckets <@ v_locked;
    if not v_is_free then
      foreach v_key in array v_job.buckets loop
        v_at := array_position(v_locked, v_key);
        if v_lasts[v_at] < v_job.needed then
          v_never := v_key;
          exit;
        elsif v_rooms[v_at] < v_job.needed then
          v_late := v_key;
        end if;
      end loop;
    end if;
    if v_never is not null then
      parked := true;
      perform persona._hold_for_money(v_job.id, v_never, v_job.needed);
    elsif v_late is not null then
      parked := true;
      perform persona._park_for_money(v_job.id, v_late, v_job.needed, p_ids);
    else
      ids := ids || v_job.id;
      seqs := seqs || v_job.seq;
      amounts := amounts || v_job.needed;
      continue when v_is_free;
      foreach v_key in array v_job.buckets loop
        v_at := array_position(v_locked, v_key);
        v_rooms[v_at] := v_rooms[v_at] - v_job.needed;
      end loop;
    end if;
  end loop;
end $$;
comment on function persona._reserve(uuid[]) is
  'Internal. Jobs that budgets let start, with what is to be reserved for each (null: nothing); parks or holds the others.';
