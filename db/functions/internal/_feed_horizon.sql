-- Every transaction of this database below it has ended, as the statement's snapshot sees it: what it wrote is visible,
-- or never will be. The snapshot's xmin says less: a long transaction in another database of the server holds it back,
-- though it cannot write here. One counts as a stranger only where that is certain: a transaction stays in its database,
-- so who is seen with that id elsewhere, now or when the activity was read first in this transaction, was there in the
-- snapshot, too. Who is not seen (it has ended since, or we are on a standby) counts as ours. Our own is not in our
-- snapshot, and has not ended.
create or replace function persona._feed_horizon() returns bigint
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select least(
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    pg_current_xact_id_if_assigned()::text::bigint,
    (select min(x.xid::text::bigint)
     from pg_snapshot_xip(pg_current_snapshot()) as x (xid)
     where not exists (
       select from (
         select s.datid, s.backend_xid from pg_stat_get_activity(null) as s
         union all
         select p.dbid, p.transaction from pg_prepared_xact() as p
       ) as other (datid, xid)
       where other.xid::text::bigint = mod(x.xid::text::bigint, 4294967296)
         and other.datid <> (select d.oid from pg_database as d where d.datname = current_database()))));
$$;
comment on function persona._feed_horizon() is
  'Internal. The id below which every transaction of this database has ended: events up to here are complete.';
