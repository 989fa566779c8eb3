create or replace view persona.limit_use as
select l.name, l.max_running, l.max_running - persona._limit_room(l.name) as running,
  (select count(*) from persona.job_queue as q where q.waits_on = 'limit' and q.parked_for = l.name) as parked,
  l.updated_at
from persona.limits as l;
comment on view persona.limit_use is 'Limits on what runs at once, and how far they are used.';
comment on column persona.limit_use.name is 'total, type:JOB_TYPE, or key:LIMIT_KEY.';
comment on column persona.limit_use.max_running is 'So many at most.';
comment on column persona.limit_use.running is 'So many run now.';
comment on column persona.limit_use.parked is 'Pending jobs that were found without room; more may wait behind them.';
comment on column persona.limit_use.updated_at is 'Last change.';
