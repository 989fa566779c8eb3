-- What a monitor shows, in one statement. Only what the narrow tables and the last hour hold is read: the last hour
-- through the arrival indexes.
create or replace function persona.monitor_snapshot(max_rows integer default 10) returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
  v_since constant timestamptz := date_trunc('minute', now()) - interval '59 minutes';
  v_answer jsonb;
begin
  if monitor_snapshot.max_rows is null or monitor_snapshot.max_rows not between 1 and 1000 then
    perform persona._invalid('max_rows', monitor_snapshot.max_rows::text, '1 to 1000 is allowed');
  end if;
  select jsonb_build_object('at', now(), 'summary', jsonb_object_agg(persona._camel(s.key), s.value)) into v_answer
  from persona.job_summary() as r
  cross join lateral jsonb_each(to_jsonb(r)) as s;

  v_answer := v_answer || jsonb_build_object(
    'running', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'id', d.id, 'shortId', d.short_id, 'type', d.job_type, 'agent', d.agent, 'task', d.task_preview,
        'runner', d.runner_name, 'pid', d.pid, 'hung', d.hung, 'progress', d.progress, 'progressText', d.progress_text,
        'startedAt', d.started_at, 'seconds', d.duration_seconds,
        'secondsLeft', case when d.progress > 0 and d.progress <= 100
          then round(d.duration_seconds * (100 - d.progress) / d.progress, 1) end) order by d.started_at desc), '[]')
      from (
        select l.job_id from persona.job_leases as l order by l.claimed_at desc limit monitor_snapshot.max_rows) as l
      join persona.job_dashboard as d on d.id = l.job_id),
    'oldestPending', (
      select jsonb_build_object('id', d.id, 'shortId', d.short_id, 'type', d.job_type, 'agent', d.agent,
        'task', d.task_preview, 'waitingFor', d.waiting_for,
        'seconds', round(extract(epoch from now() - d.run_at), 1))
      from (
        select q.job_id from persona.job_queue as q where q.run_at <= now() order by q.run_at, q.seq limit 1) as q
      join persona.job_dashboard as d on d.id = q.job_id),
    'recentEnds', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'id', a.job_id, 'shortId', j.short_id, 'type', j.job_type, 'agent', j.agent, 'outcome', a.outcome,
        'status', j.status, 'startedAt', a.started_at, 'endedAt', a.ended_at, 'error', left(a.error, 300),
        'exitCode', a.exit_code, 'task', persona._task_preview(j.payload)) order by a.ended_at desc), '[]')
      from (
        select * from persona.job_attempts as e where e.ended_at >= v_since
        order by e.ended_at desc limit monitor_snapshot.max_rows) as a
      join persona.jobs as j on j.id = a.job_id),
    'gates', (
      select coalesce(jsonb_agg(jsonb_build_object('provider', g.provider, 'account', g.account, 'state', g.state,
        'reason', g.reason, 'reopensAt', g.reopens_at) order by g.provider, g.account), '[]')
      from persona.gates as g where g.state <> 'open'),
    'runners', (
      select jsonb_build_object(
        'live', count(*) filter (where r.status in ('idle', 'busy', 'draining')),
        'capacity', coalesce(sum(r.capacity) filter (where r.status in ('idle', 'busy', 'draining')), 0),
        'lost', count(*) filter (where r.status = 'lost'))
      from persona.runner_dashboard as r where r.status <> 'gone'),
    -- A running job is hung from then on: no change of a row tells it.
    'dueInSeconds', (
      select round(extract(epoch from min(l.expires_at) - now()), 1) from persona.job_leases as l
      where l.expires_at > now()));

  return v_answer || (
    select jsonb_build_object('completedByMinute', jsonb_agg(t.completed order by t.at),
      'failedByMinute', jsonb_agg(t.failed order by t.at), 'pendingByMinute', jsonb_agg(t.pending order by t.at))
    from persona.get_throughput('1 hour', 60) as t);
end $$;
comment on function persona.monitor_snapshot(integer) is
  'Viewer API. One JSON document for monitors: counts, what runs and how far it is, the oldest pending job, recent ends, closed gates, runners, and the last 60 minutes as lists (pendingByMinute is reckoned back from now). PJ422.';
