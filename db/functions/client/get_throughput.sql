-- What came and what ended, bucket by bucket: from the sums, where buckets are of whole minutes and the sums go back
-- as far, and what is not in them yet from the records, which the arrival indexes find. A tenant's are all from
-- the records. How deep the queue was the tick has noted; in between it is reckoned back from the next note, or from now.
create or replace function persona.get_throughput(span interval default '24 hours', buckets integer default 96)
returns table (
  at timestamptz, created bigint, completed bigint, failed bigint, otherwise bigint, pending bigint)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  v_since constant timestamptz := persona._first_bucket(get_throughput.span, get_throughput.buckets);
  v_width constant interval := get_throughput.span / get_throughput.buckets;
  v_is_summed constant boolean := persona._is_summed(v_since, v_width);
  v_pending bigint := (select count(*) from persona.job_queue);
  v_from bigint := 0;
  v_after timestamptz := v_since;
begin
  if v_is_summed then
    select c.counted_xid, c.restored_at into v_from, v_after from persona.activity_cursor as c;
  end if;
  return query
    with happened as (
      select h.at, h.created, h.came, h.completed, h.failed, h.otherwise
      from persona._happened(v_from, 9223372036854775807, v_after, 'infinity', v_width) as h
      union all
      select l.claimed_at, 0, -1, 0, 0, 0 from persona.job_leases as l
      union all
      -- These have come, but not into the queue yet.
      select j.created_at, 0, -1, 0, 0, 0 from persona.jobs as j where j.attention = 'blocked'
      union all
      select a.at, a.created, a.came, a.completed, a.failed, a.otherwise from persona.activity as a
      where v_is_summed and a.at >= v_since
    ), counted as (
      select b.at, coalesce(sum(h.created), 0) as created, coalesce(sum(h.came), 0) as came,
        coalesce(sum(h.completed), 0) as completed, coalesce(sum(h.failed), 0) as failed,
        coalesce(sum(h.otherwise), 0) as otherwise,
        case when b.at + v_width > now() then v_pending
          else (select q.pending from persona.queue_depths as q where v_is_summed and q.at = b.at + v_width) end as depth
      from generate_series(v_since, now(), v_width) as b (at)
      left join (
        select date_bin(v_width, e.at, v_since) as bucket, sum(e.created) as created,
          sum(e.came) as came, sum(e.completed) as completed, sum(e.failed) as failed, sum(e.otherwise) as otherwise
        from happened as e where e.at >= v_since group by 1) as h on h.bucket = b.at
      group by b.at
    ), noted as (
      select c.*, count(c.depth) over (order by c.at desc) as note from counted as c
    )
    select n.at, n.created::bigint, n.completed::bigint, n.failed::bigint, n.otherwise::bigint,
      greatest(0, first_value(n.depth) over newer - coalesce(sum(n.came) over (
        newer rows between unbounded preceding and 1 preceding), 0))::bigint
    from noted as n
    window newer as (partition by n.note order by n.at desc)
    order by n.at;
end $$;
comment on function persona.get_throughput(interval, integer) is
  'Viewer API. Jobs created, executions that completed, failed or were ended otherwise (cancelled, held, given back, rate limited), and jobs pending at the end of each bucket (as noted by the upkeep, in between reckoned back), oldest first. PJ422.';
