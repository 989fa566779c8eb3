-- Have all transactions that could have missed the idle mark ended? To be asked in a statement before the last
-- claim. A stranger's long transaction holds the horizon back though it never touches the queue: then it is enough
-- that none of those which were writing to the queue at the horizon is left.
create or replace function persona.is_settled(horizon text, holders text[] default null) returns boolean
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select pg_snapshot_xmin(pg_current_snapshot()) > is_settled.horizon::xid8
    or (is_settled.holders is not null and not exists (
      select from pg_locks as l
      where l.locktype = 'relation' and l.mode = 'RowExclusiveLock'
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())
        and l.relation in (
        'persona.jobs'::regclass, 'persona.job_queue'::regclass, 'persona.agents'::regclass, 'persona.gates'::regclass,
        'persona.limits'::regclass)
        and l.virtualtransaction = any(is_settled.holders)));
$$;
comment on function persona.is_settled(text, text[]) is
  'Runner API. True once no transaction from before the horizon can bring new work; with holders, once those have ended.';
