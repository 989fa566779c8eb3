-- Where the cursor is ahead of the server, that one was restored from a dump: its transactions begin anew.
create or replace function persona._count_executions() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_to constant bigint := persona._feed_horizon();
  v_from bigint;
begin
  select c.counted_xid into v_from from persona.execution_cursor as c for no key update;
  if v_from = v_to then
    return;
  elsif v_from < v_to then
    insert into persona.execution_totals as t
    select f.* from persona._fresh_executions(v_from, v_to) as f
    on conflict (agent, job_type, outcome, failure_kind) do update
    set executions = t.executions + excluded.executions, seconds = t.seconds + excluded.seconds,
        within = array(
          select w.old + w.more from unnest(t.within, excluded.within) with ordinality as w (old, more, n) order by w.n);
  end if;
  update persona.execution_cursor as c set counted_xid = v_to
  where v_from < v_to or v_from > pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
end $$;
comment on function persona._count_executions() is 'Internal. Moves what has ended into execution_totals.';
