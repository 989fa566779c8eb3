create or replace function persona.heartbeat(
  runner_id uuid, job_id uuid, lease bigint, pid integer default null, cpu_percent real default null,
  memory_mb real default null, progress numeric default null, progress_text text default null
) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_directive text;
begin
  select h.directive into v_directive
  from persona.heartbeats(heartbeat.runner_id, jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'job_id', heartbeat.job_id, 'lease', heartbeat.lease, 'pid', heartbeat.pid,
    'cpu_percent', heartbeat.cpu_percent, 'memory_mb', heartbeat.memory_mb,
    'progress', heartbeat.progress, 'progress_text', heartbeat.progress_text)))) as h;
  if v_directive is distinct from 'keep' and v_directive is distinct from 'cancel' then
    perform persona._lease_lost(heartbeat.runner_id, heartbeat.job_id, heartbeat.lease);
  end if;
  return v_directive;
end $$;
comment on function persona.heartbeat(uuid, uuid, bigint, integer, real, real, numeric, text) is
  'Runner API. Renews one lease; returns keep or cancel. PJ410 where the lease is lost.';
