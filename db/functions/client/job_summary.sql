-- Counts by status. The narrow tables give those of unfinished jobs; completed is what is left of the total, so
-- that no scan reads the wide rows. The body is parsed when it is installed: a plugin asks this every few seconds, each
-- time over a connection of its own, which has everything to read first.
create or replace function persona.job_summary()
returns table (
  pending bigint, running bigint, completed bigint, failed bigint, cancelled bigint, blocked bigint, held bigint,
  hung bigint, oldest_pending_seconds numeric, cost_today numeric, unseen_alerts bigint)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp
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
  cross join (select count(*) as n from persona.jobs) as t
  cross join (
    select count(*) filter (where j.attention = 'failed') as failed,
      count(*) filter (where j.attention = 'cancelled') as cancelled,
      count(*) filter (where j.attention = 'blocked') as blocked,
      count(*) filter (where j.attention = 'held') as held
    from persona.jobs as j where j.attention is not null) as a;
end;
comment on function persona.job_summary() is
  'Viewer API. Jobs by status (running includes hung), age of the oldest pending one, today''s cost, unseen alerts.';
