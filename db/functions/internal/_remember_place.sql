-- Notes where a claim has got to in the queue: the next claims of this session start there (_pick_from_place). Called
-- once a scan from the head has walked over many dead entries. A setting of the session holds the place, because a row
-- that is written with each claim would fill up with dead versions itself; whoever sets it to something else only
-- spoils the order of their own claims. What was got to from the head is good for fifty times what the walk took, so that
-- walks take 2 % of the time.
create or replace function persona._remember_place(p_place jsonb, p_seqs bigint[], p_walked bigint, p_is_head boolean)
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  -- An entry takes 0.15 to 0.3 us.
  v_until double precision := case
    when p_is_head then extract(epoch from clock_timestamp()) + least(p_walked * 0.00001, 10)
    else (p_place ->> 'until')::double precision end;
begin
  perform set_config('persona.claim_place', coalesce((
    with reached as (
      select distinct on (q.agent, q.priority) q.agent, q.priority, q.run_at, q.seq
      from persona.job_queue as q where q.seq = any(p_seqs)
      order by q.agent, q.priority, q.run_at desc, q.seq desc
    ), level as (
      select r.agent, r.priority, r.run_at, r.seq from reached as r
      union all
      -- A walk from the head has not seen the levels below those that it has reached: their places are too old now.
      select l.agent, l.priority, l.run_at, l.seq
      from jsonb_to_recordset(p_place -> 'levels') as l (agent text, priority integer, run_at timestamptz, seq bigint)
      where not exists (
        select from reached as r
        where r.agent = l.agent and (r.priority = l.priority or (p_is_head and r.priority > l.priority)))
    )
    select jsonb_build_object('until', v_until, 'levels', jsonb_agg(to_jsonb(l)))::text
    from level as l having count(*) between 1 and 100), ''), false);
end $$;
comment on function persona._remember_place(jsonb, bigint[], bigint, boolean) is
  'Internal. Notes in the session where its claims have got to.';
