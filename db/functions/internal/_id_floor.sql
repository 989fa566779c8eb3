-- Ids are in the order of time, so "created since" is a range of the primary key.
create or replace function persona._id_floor(p_at timestamptz) returns uuid
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select rpad(lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
$$;
comment on function persona._id_floor(timestamptz) is 'Internal. The least id that a job created at that time or later can have.';
