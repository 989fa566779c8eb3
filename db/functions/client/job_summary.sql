-- Counts by status. The narrow tables give those of unfinished jobs; completed is what is left of the total, which the
-- tick keeps: only jobs that came since are counted, so that ten million finished ones cost nothing. A tenant's
-- are, and so are all after a restore of millions.
-- The body is parsed when it is installed: a plugin asks this every few seconds, each time over a connection of its own,
-- which has everything to read first. So my_tenants is asked only where there are tenants: in a fresh connection that
-- question alone takes half as long as the answer.
create or replace function persona.job_summary()
returns table (
  pending bigint, running bigint, completed bigint, failed bigint, cancelled bigint, blocked bigint, held bigint,
  hung bigint, oldest_pending_seconds numeric, cost_today numeric, unseen_alerts bigint)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off
begin atomic
  select q.n, l.n, t.n - q.n - l.n - a.failed - a.cancelled - a.blocked - a.held,
    a.failed, a.cancelled, a.blocked, a.held, l.hung,
    round(extract(epoch from now() - q.oldest), 1),
    (select coalesce(sum(c.amount_usd), 0) from persona.cost_ledger as c
     where c.kind = 'booked' and c.at >= date_trunc('day', now())),
    (select count(*) from persona.alerts as s where s.seen_at is null)
  from (
    select count(*) as n, min(o.run_at) filter (where o.run_at <= now()) as oldest from persona.job_queue as o) as q
  cross join (
    select count(*) as n, count(*) filter (where o.expires_at < now()) as hung from persona.job_leases as o) as l
  cross join (
    select case
      when c.jobs is null or row_security_active('persona.jobs'::regclass) and persona.my_tenants() is not null
        then (select count(*) from persona.jobs)
      else c.jobs + (
        select count(*) from persona.jobs as j where j.created_xid >= c.counted_xid and j.seq > c.restored_seq) - (
        select coalesce(sum(r.jobs), 0) from persona.job_removals as r where r.created_xid < c.counted_xid)
      end::bigint as n
    from persona.activity_cursor as c) as t
  cross join (
    select count(*) filter (where j.attention = 'failed') as failed,
      count(*) filter (where j.attention = 'cancelled') as cancelled,
      count(*) filter (where j.attention = 'blocked') as blocked,
      count(*) filter (where j.attention = 'held') as held
    from persona.jobs as j where j.attention is not null) as a;
end;
comment on function persona.job_summary() is
  'Viewer API. Jobs by status (running includes hung), age of the oldest pending one, today''s cost, unseen alerts.';
