create or replace function persona.deregister_runner(runner_id uuid) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._own_runner(deregister_runner.runner_id);
  perform s.job_id from persona.job_leases as l
  cross join lateral persona._settle(deregister_runner.runner_id, jsonb_build_array(jsonb_build_object(
    'job_id', l.job_id, 'lease', l.lease, 'outcome', 'given_back', 'error', 'its runner left'))) as s
  where l.runner_id = deregister_runner.runner_id;
  delete from persona.idle_runners as i where i.runner_id = deregister_runner.runner_id;
  update persona.runners as r set ended_at = now(), ended_reason = 'stopped', last_seen_at = now()
  where r.id = deregister_runner.runner_id and r.ended_at is null;
end $$;
comment on function persona.deregister_runner(uuid) is
  'Runner API. The runner leaves, having killed all it ran; what it still holds is given back.';
