-- Renews leases, one statement for all jobs of a runner, and tells what to do with each job.
-- A lease that has run out but that nobody has taken is renewed: a laptop that slept alone does not pay twice.
-- Only narrow rows without an index on what changes are written (HOT).
create or replace function persona.heartbeats(runner_id uuid, beats jsonb)
returns table (job_id uuid, lease bigint, directive text, reason text, force boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set jit = off as $$
#variable_conflict use_column
begin
  perform persona._own_runner(heartbeats.runner_id);
  perform persona._refuse_late('heartbeats');
  update persona.runners as r set last_seen_at = now()
  where r.id = heartbeats.runner_id and r.ended_at is null
    and r.last_seen_at < now() - least(interval '1 second', r.lease / 10);
  if heartbeats.beats is null or heartbeats.beats = '[]' then
    return;
  end if;

  return query
    with beat as materialized (
      select * from jsonb_to_recordset(heartbeats.beats) as b (
        job_id uuid, lease bigint, pid integer, pid_started text, token bigint, cpu_percent real, memory_mb real,
        progress numeric, progress_text text, argv text[])
    ), renewed as (
      update persona.job_leases as l
      set heartbeat_at = now(), expires_at = now() + l.lease_length,
          pid = coalesce(b.pid, l.pid), pid_started = coalesce(b.pid_started, l.pid_started),
          token = coalesce(b.token, l.token),
          cpu_percent = coalesce(b.cpu_percent, l.cpu_percent), memory_mb = coalesce(b.memory_mb, l.memory_mb),
          progress = coalesce(b.progress, l.progress), progress_text = coalesce(b.progress_text, l.progress_text),
          argv = coalesce(b.argv, l.argv)
      from beat as b
      -- As a range of one, and the runner not as an index would know it: by key, whatever the plan was made for.
      where l.job_id between b.job_id and b.job_id and l.lease = b.lease
        and l.runner_id is not distinct from heartbeats.runner_id
      returning l.job_id, l.lease, l.stop_requested, l.stop_force
    )
    select w.job_id, w.lease, case when w.stop_requested then 'cancel' else 'keep' end,
      case when w.stop_requested then (select j.cancel_reason from persona.jobs as j where j.id = w.job_id) end,
      w.stop_force
    from renewed as w
    union all
    -- By what was renewed and not by the table: a lease that is taken while we wait for its row is still in our
    -- snapshot.
    select b.job_id, b.lease, 'lost', null, false
    from beat as b
    left join renewed as w on w.job_id = b.job_id and w.lease = b.lease
    where w.job_id is null;
  perform persona._announce(null);
end $$;
comment on function persona.heartbeats(uuid, jsonb) is
  'Runner API. Renews the leases of [{job_id, lease, pid, pid_started, token, cpu_percent, memory_mb, progress, progress_text, argv}] and returns for each keep, cancel (kill it and report) or lost (kill it and report nothing). Never raises for an item.';
