-- After executions have been booked: budgets that are used up to 80 or to 100 percent. In the order of buckets, so that
-- two who find the same ones do not wait for each other crosswise.
create or replace function persona._watch_budgets(p_ids uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_bucket record;
  v_percent integer;
begin
  for v_bucket in
    select distinct on (b.bucket) b.*, j.id as job_id
    from persona.jobs as j
    cross join lateral persona._buckets(j) as b
    where j.id = any(p_ids) and b.scope <> 'below'
    order by b.bucket, j.id
  loop
    select case when m.booked >= v_bucket.limit_usd then 100 when m.booked >= 0.8 * v_bucket.limit_usd then 80 end
    into v_percent
    from persona._money_of(v_bucket.scope, v_bucket.subject, v_bucket.period) as m;
    continue when v_percent is null;
    perform persona._raise_budget_alert(
      v_bucket.bucket, v_bucket.name, v_bucket.period, v_bucket.limit_usd, v_percent, v_bucket.job_id,
      format('budget %s has passed %s %%', split_part(persona._bucket_text(v_bucket.bucket, 0), ', the job', 1), v_percent));
  end loop;
end $$;
comment on function persona._watch_budgets(uuid[]) is 'Internal. Raises budget alerts for what these jobs have cost.';
