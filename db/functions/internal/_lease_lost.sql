create or replace function persona._lease_lost(p_runner_id uuid, p_job_id uuid, p_lease bigint) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._raise('PJ410',
    format('runner %s does not hold lease %s of job %s', p_runner_id, p_lease, p_job_id),
    jsonb_build_object('runner_id', p_runner_id, 'job_id', p_job_id, 'lease', p_lease),
    'Kill the process tree and report nothing.');
end $$;
comment on function persona._lease_lost(uuid, uuid, bigint) is 'Internal. Raises PJ410.';
