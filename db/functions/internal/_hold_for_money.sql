create or replace function persona._hold_for_money(p_job_id uuid, p_bucket text, p_needed numeric) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_reason text := 'over budget ' || persona._bucket_text(p_bucket, p_needed);
  v_bucket record;
begin
  update persona.jobs as j
  set status = 'held', status_reason = left(v_reason, 500),
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = p_job_id;
  insert into persona.budget_holds (job_id, bucket, needed_usd) values (p_job_id, p_bucket, p_needed)
  on conflict (job_id) do update
  set bucket = excluded.bucket, needed_usd = excluded.needed_usd, held_at = excluded.held_at;
  select * into v_bucket from persona._bucket(p_bucket) as b;
  perform persona._raise_budget_alert(p_bucket, v_bucket.name, v_bucket.period, v_bucket.limit_usd, 100, p_job_id,
    v_reason || '; the job is held');
end $$;
comment on function persona._hold_for_money(uuid, text, numeric) is
  'Internal. Holds a pending job because a budget has no room for it, and tells people once a period.';
