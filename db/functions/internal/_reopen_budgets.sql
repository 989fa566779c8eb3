-- Lets go what was held for money that is there now: another period, another limit, a reservation that was not used.
-- Only as many as there is room for; of each budget the oldest first.
create or replace function persona._reopen_budgets(p_bucket text default null) returns bigint
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_key text;
  v_hold record;
  v_room numeric;
  v_done bigint := 0;
begin
  -- Of what is not held any more, the row is of no use.
  delete from persona.budget_holds as h
  where h.job_id = any(array(
    select o.job_id from persona.budget_holds as o
    where not exists (select from persona.jobs as j where j.id = o.job_id and j.status = 'held')
    limit 1000 for update skip locked));
  for v_key in
    select distinct h.bucket from persona.budget_holds as h where h.bucket = coalesce(p_bucket, h.bucket) order by 1
  loop
    select b.limit_usd - m.booked - m.reserved into v_room
    from persona._bucket(v_key) as b
    cross join lateral persona._money_of(b.scope, b.subject, b.period) as m;
    v_room := coalesce(v_room, 'infinity');
    for v_hold in
      select h.job_id, h.needed_usd
      from persona.budget_holds as h
      join persona.jobs as j on j.id = h.job_id
      where h.bucket = v_key and j.status = 'held' and h.needed_usd <= v_room
      order by j.seq limit 1000 for no key update skip locked
    loop
      exit when v_hold.needed_usd > v_room;
      v_room := v_room - v_hold.needed_usd;
      delete from persona.budget_holds as h where h.job_id = v_hold.job_id;
      update persona.jobs as j
      set status = 'pending', status_reason = null, updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
      where j.id = v_hold.job_id;
      v_done := v_done + 1;
    end loop;
  end loop;
  return v_done;
end $$;
comment on function persona._reopen_budgets(text) is
  'Internal. Makes jobs pending that were held for a budget (null: for any) which has room for them now; returns how many.';
