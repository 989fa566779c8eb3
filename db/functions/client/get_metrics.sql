-- One row a sample, for `persona metrics` and whoever else asks: what it is called, its kind (counter, gauge; histogram
-- for the parts of one), what it says, its labels. Labels come from what admins have registered, so that no client can
-- make as many series as it likes. Counters do not fall: what has ended since the last tick is added to the totals.
-- All of it in one snapshot; it reads the queue and what runs once, and no history.
create or replace function persona.get_metrics()
returns table (name text, kind text, help text, labels jsonb, value double precision)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
begin
  if persona.my_tenants() is not null then
    perform persona._raise('PJ403', 'metrics are of all businesses together', null,
      'A role that is assigned to a business cannot read them: ask as another one.');
  end if;
  return query
    with ended as materialized (
      select e.agent, e.job_type, e.outcome, e.failure_kind, sum(e.executions) as executions, sum(e.seconds) as seconds,
        array[sum(e.within[1]), sum(e.within[2]), sum(e.within[3]), sum(e.within[4]), sum(e.within[5]), sum(e.within[6]),
          sum(e.within[7]), sum(e.within[8])] as within
      from (
        select t.* from persona.execution_totals as t
        union all
        select f.* from persona.execution_cursor as c
        cross join lateral persona._fresh_executions(c.counted_xid, 9223372036854775807) as f) as e
      group by 1, 2, 3, 4
    ), durations as materialized (
      select e.agent, e.job_type, sum(e.executions) as executions, sum(e.seconds) as seconds,
        array[sum(e.within[1]), sum(e.within[2]), sum(e.within[3]), sum(e.within[4]), sum(e.within[5]), sum(e.within[6]),
          sum(e.within[7]), sum(e.within[8])] as within
      from ended as e group by 1, 2
    ), queued as materialized (
      select q.agent, coalesce(q.waits_on, case when q.run_at > now() then 'time' else 'ready' end) as state, count(*) as n,
        extract(epoch from now() - min(q.run_at)) as oldest
      from persona.job_queue as q group by 1, 2
    ), running as materialized (
      select l.agent, coalesce(r.name, 'external') as runner, count(*) as n,
        count(*) filter (where l.expires_at < now()) as hung, sum(l.cpu_percent) as cpu, sum(l.memory_mb) as memory,
        extract(epoch from now() - min(l.heartbeat_at)) as silent
      from persona.job_leases as l left join persona.runners as r on r.id = l.runner_id group by 1, 2
    ), health as materialized (
      select h.dead_tuples, h.oldest_snapshot_age, h.oldest_prepared_age, h.oldest_slot_age, h.notification_queue_usage
      from persona.queue_health as h
    )
    select 'persona_info', 'gauge', 'Always 1; the labels say what is installed.', jsonb_build_object(
        'schema', persona.schema_version(), 'postgresql', current_setting('server_version')), 1::double precision
    union all
    select 'persona_executions_total', 'counter', 'Executions that have ended, by outcome.', jsonb_build_object(
        'agent', e.agent, 'job_type', e.job_type, 'outcome', e.outcome, 'failure_kind', e.failure_kind), e.executions
    from ended as e
    union all
    select 'persona_claims_total', 'counter', 'Executions that have begun.', jsonb_build_object('agent', c.agent), sum(c.n)
    from (select d.agent, d.executions as n from durations as d union all select r.agent, r.n from running as r) as c
    group by c.agent
    union all
    select 'persona_execution_seconds_bucket', 'histogram', 'How long executions took.', jsonb_build_object(
        'agent', d.agent, 'job_type', d.job_type, 'le', b.le), b.n
    from durations as d
    cross join lateral unnest(array['1', '5', '15', '60', '300', '900', '3600', '14400', '+Inf'],
      d.within || d.executions) as b (le, n)
    union all
    select 'persona_execution_seconds_sum', 'histogram', 'How long executions took.', jsonb_build_object(
        'agent', d.agent, 'job_type', d.job_type), d.seconds from durations as d
    union all
    select 'persona_execution_seconds_count', 'histogram', 'How long executions took.', jsonb_build_object(
        'agent', d.agent, 'job_type', d.job_type), d.executions from durations as d
    union all
    select 'persona_cost_usd_total', 'counter', 'Money booked, in US dollars.', jsonb_build_object(
        'agent', m.agent, 'business', m.business), sum(m.usd)
    from (
      select t.agent, t.business, t.booked_usd as usd from persona.cost_totals as t
      union all
      select f.agent, f.business, f.booked_usd from persona.cost_fresh as f) as m
    group by m.agent, m.business
    union all
    select 'persona_queue_jobs', 'gauge', 'Pending jobs; state says what they wait for.', jsonb_build_object(
        'agent', q.agent, 'state', q.state), q.n from queued as q
    union all
    select 'persona_queue_oldest_seconds', 'gauge', 'How long the oldest job has waited that could run.',
      jsonb_build_object('agent', q.agent), q.oldest from queued as q where q.state = 'ready'
    union all
    select 'persona_waiting_jobs', 'gauge', 'Jobs that are held, or blocked by others.', jsonb_build_object('status', j.attention),
      count(*) from persona.jobs as j where j.attention in ('held', 'blocked') group by j.attention
    union all
    select 'persona_running_jobs', 'gauge', 'Jobs that run.', jsonb_build_object('agent', r.agent, 'runner', r.runner), r.n
    from running as r
    union all
    select 'persona_hung_jobs', 'gauge', 'Jobs whose lease has run out.', '{}', coalesce(sum(r.hung), 0) from running as r
    union all
    select 'persona_heartbeat_seconds', 'gauge', 'How long ago the oldest last heartbeat of a runner''s jobs was.',
      jsonb_build_object('runner', r.runner), max(r.silent) from running as r group by r.runner
    union all
    select 'persona_job_cpu_percent', 'gauge', 'CPU that a runner''s jobs use, in percent of a core.',
      jsonb_build_object('runner', r.runner), sum(r.cpu) from running as r where r.cpu is not null group by r.runner
    union all
    select 'persona_job_memory_bytes', 'gauge', 'Memory that a runner''s jobs use.',
      jsonb_build_object('runner', r.runner), sum(r.memory) * 1048576 from running as r where r.memory is not null
    group by r.runner
    union all
    select 'persona_runner_up', 'gauge', 'Live runners.', jsonb_build_object(
        'runner', d.name, 'host', d.hostname, 'version', coalesce(d.version, ''), 'status', d.status), 1
    from persona.runner_dashboard as d where d.status not in ('gone', 'lost')
    union all
    select 'persona_runner_capacity', 'gauge', 'Jobs that a runner runs at once.', jsonb_build_object('runner', d.name), d.capacity
    from persona.runner_dashboard as d where d.status not in ('gone', 'lost')
    union all
    select 'persona_runner_seen_seconds', 'gauge', 'How long ago a runner was heard of.', jsonb_build_object('runner', d.name),
      extract(epoch from now() - d.last_seen_at)
    from persona.runner_dashboard as d where d.status not in ('gone', 'lost')
    union all
    select 'persona_gate_open', 'gauge', '1 where jobs of a provider may start, 0 where its gate is closed or probed.',
      jsonb_build_object('provider', g.provider, 'account', g.account), (g.state = 'open')::integer
    from persona.gates as g
    union all
    select 'persona_budget_' || m.what || '_usd', 'gauge', 'Budgets, and how far they are used up in their period.',
      jsonb_build_object('budget', b.name, 'subject', coalesce(b.subject, '')), m.usd
    from persona.list_budgets() as b
    cross join lateral (
      values ('limit', b.limit_usd), ('used', b.used_usd), ('reserved', b.reserved_usd)) as m (what, usd)
    where b.scope in ('total', 'agent', 'business') and b.is_active and m.usd is not null
    union all
    select 'persona_alerts_unseen', 'gauge', 'Alerts that nobody has marked as seen.', jsonb_build_object('kind', a.kind), count(*)
    from persona.alerts as a where a.seen_at is null group by a.kind
    union all
    select 'persona_dead_rows', 'gauge', 'Dead rows in the hot tables.', '{}', h.dead_tuples from health as h
    union all
    select 'persona_oldest_snapshot_transactions', 'gauge', 'Transactions since the oldest snapshot that vacuum waits for.',
      '{}', greatest(h.oldest_snapshot_age, h.oldest_prepared_age, h.oldest_slot_age, 0) from health as h
    union all
    select 'persona_notification_queue_ratio', 'gauge', 'Share of the notification queue in use.', '{}',
      h.notification_queue_usage from health as h
    union all
    select 'persona_table_bytes', 'gauge', 'Size of a table with its indexes; of job_logs, all days.',
      jsonb_build_object('table', s.name), sum(s.bytes)
    from (
      select case when c.relispartition then 'job_logs' else c.relname end as name, pg_total_relation_size(c.oid) as bytes
      from pg_class as c
      where c.relnamespace = 'persona'::regnamespace and c.relkind = 'r'
        and (c.relispartition or c.relname in (
          'jobs', 'job_queue', 'job_leases', 'job_attempts', 'events', 'cost_ledger', 'alerts'))) as s
    group by s.name;
end $$;
comment on function persona.get_metrics() is
  'Viewer API. What monitoring asks, a row a sample: queue, executions, durations, runners, gates, budgets, cost, health. PJ403 for a role that belongs to a business.';
