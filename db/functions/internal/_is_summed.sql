create or replace function persona._is_summed(p_since timestamptz, p_width interval) returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select persona.my_tenants() is null and mod(extract(epoch from p_width), 60) = 0
    and p_since >= (select c.since from persona.activity_cursor as c);
$$;
comment on function persona._is_summed(timestamptz, interval) is
  'Internal. Do the sums of activity say all that the caller may see of the time since then, in buckets so wide?';
