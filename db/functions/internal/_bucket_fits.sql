-- How many executions that cost so much fit into a bucket beside all that is reserved. 0: none now, but maybe when what
-- runs has ended and cost less than was reserved. -1: none in this period, whatever becomes of the reservations.
create or replace function persona._bucket_fits(p_bucket text, p_needed numeric) returns integer
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return (
    select case
      when m.booked + m.reserved + p_needed <= b.limit_usd
        then least(1000, floor((b.limit_usd - m.booked - m.reserved) / p_needed))::integer
      when m.booked + m.lent + p_needed <= b.limit_usd then 0
      else -1
    end
    from persona._bucket(p_bucket) as b
    cross join lateral persona._money_of(b.scope, b.subject, b.period) as m);
end $$;
comment on function persona._bucket_fits(text, numeric) is
  'Internal. So many executions of that cost have room in a bucket; 0: later, -1: never in this period, null: the bucket is gone.';
