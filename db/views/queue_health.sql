create or replace view persona.queue_health as
select
  (select count(*) from persona.job_queue) as pending,
  (select round(extract(epoch from now() - min(q.run_at)), 1) from persona.job_queue as q
   where q.waits_on is null and q.run_at <= now()) as oldest_pending_seconds,
  (select coalesce(sum(s.n_dead_tup), 0) from pg_stat_all_tables as s
   where s.schemaname = 'persona' and s.relname in ('jobs', 'job_queue', 'job_leases', 'runners', 'idle_runners')) as dead_tuples,
  (select a.pid from pg_stat_activity as a where a.backend_xmin is not null
   order by age(a.backend_xmin) desc limit 1) as oldest_snapshot_pid,
  (select max(age(a.backend_xmin)) from pg_stat_activity as a) as oldest_snapshot_age,
  (select max(age(x.transaction)) from pg_prepared_xacts as x) as oldest_prepared_age,
  (select max(age(coalesce(s.xmin, s.catalog_xmin))) from pg_replication_slots as s) as oldest_slot_age,
  pg_notification_queue_usage() as notification_queue_usage;
comment on view persona.queue_health is 'One row: what makes a queue in PostgreSQL slow.';
comment on column persona.queue_health.oldest_pending_seconds is 'Age of the oldest job that could run.';
comment on column persona.queue_health.dead_tuples is 'Dead rows in the hot tables, by the statistics.';
comment on column persona.queue_health.oldest_snapshot_pid is 'Backend that holds the oldest snapshot, seen as far as the role may.';
comment on column persona.queue_health.oldest_snapshot_age is 'Transactions since that snapshot.';
comment on column persona.queue_health.oldest_prepared_age is 'Transactions since the oldest prepared transaction.';
comment on column persona.queue_health.oldest_slot_age is 'Transactions since the oldest replication slot''s horizon.';
comment on column persona.queue_health.notification_queue_usage is 'Share of the notification queue in use, 0 to 1.';
comment on column persona.queue_health.pending is 'Pending jobs, delayed and parked ones included.';
