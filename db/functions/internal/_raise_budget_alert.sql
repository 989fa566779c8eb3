-- Once for each bucket, period, limit and mark.
create or replace function persona._raise_budget_alert(
  p_bucket text, p_name text, p_period text, p_limit numeric, p_percent integer, p_job_id uuid, p_message text)
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._raise_alert('budget', p_job_id, p_message,
    jsonb_build_object('budget', p_name, 'percent', p_percent),
    format('budget:%s:%s:%s:%s', p_bucket, persona._period_start(p_period), p_limit, p_percent));
end $$;
comment on function persona._raise_budget_alert(text, text, text, numeric, integer, uuid, text) is
  'Internal. Tells people that a budget is used up to 80 or 100 percent.';
