-- Buckets lie where the clock has round times, so that a picture drawn again moves by whole ones.
create or replace function persona._first_bucket(p_span interval, p_buckets integer) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform persona._check_span(p_span);
  if p_buckets is null or p_buckets not between 1 and 1000 then
    perform persona._invalid('buckets', p_buckets::text, '1 to 1000 is allowed');
  end if;
  return date_bin(p_span / p_buckets, now(), timestamptz '2000-01-01 00:00Z') - (p_buckets - 1) * (p_span / p_buckets);
end $$;
comment on function persona._first_bucket(interval, integer) is
  'Internal. Start of the first of so many buckets of which the last one is now; refuses what makes none.';
