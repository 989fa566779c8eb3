-- A job as the first system's client knows it: blocked and held wait, so they are pending; an error only where the
-- job has ended in failure, because the client takes any answer with an error as a failed call.
create or replace function persona._bridge_job(p_id uuid, p_keys text[]) returns jsonb
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_object_agg(f.key, f.value)
  from persona.jobs as j
  left join persona.job_leases as l on l.job_id = j.id
  cross join lateral (values
    ('id', to_jsonb(j.id)), ('shortId', to_jsonb(j.short_id)), ('type', to_jsonb(j.job_type)),
    ('status', to_jsonb(case when j.status in ('blocked', 'held') then 'pending' else j.status end)),
    ('assignedTo', to_jsonb(j.agent)), ('createdAt', to_jsonb(j.created_at)), ('startedAt', to_jsonb(j.started_at)),
    ('completedAt', to_jsonb(j.completed_at)), ('error', to_jsonb(case when j.status = 'failed' then j.error end)),
    ('result', case when 'result' = any(p_keys) then j.result end), ('pid', to_jsonb(coalesce(l.pid, j.pid))),
    ('exitCode', to_jsonb(j.exit_code)), ('payload', case when 'payload' = any(p_keys) then j.payload end)
  ) as f (key, value)
  where j.id = p_id and f.key = any(p_keys) and (f.key <> 'exitCode' or j.exit_code is not null);
$$;
comment on function persona._bridge_job(uuid, text[]) is 'Internal. These keys of a job, in the first system''s form.';
