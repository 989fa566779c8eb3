-- First step of going to sleep (design: wake-ups without the NOTIFY lock). Called in a transaction of its own after
-- the one that marked the runner idle has committed: every creator that could not see the mark began earlier.
create or replace function persona.idle_horizon(runner_id uuid)
returns table (horizon text, holders text[])
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select pg_current_xact_id()::text, array(
    select distinct l.virtualtransaction
    from pg_locks as l
    where l.locktype = 'relation' and l.mode = 'RowExclusiveLock'
      and l.database = (select d.oid from pg_database as d where d.datname = current_database())
      and l.relation in (
        'persona.jobs'::regclass, 'persona.job_queue'::regclass, 'persona.agents'::regclass, 'persona.gates'::regclass,
        'persona.limits'::regclass)
      and l.pid <> pg_backend_pid());
$$;
comment on function persona.idle_horizon(uuid) is
  'Runner API. The transaction id that must have left every snapshot before the runner may sleep, and the transactions that are writing to the queue right now.';
