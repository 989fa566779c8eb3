-- So few can be read one by one, and give exact percentiles.
create or replace function persona._is_much(p_since timestamptz) returns boolean
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select coalesce(sum(a.completed + a.failed + a.otherwise), 0) > 20000 from persona.activity as a where a.at >= p_since;
$$;
comment on function persona._is_much(timestamptz) is
  'Internal. Have more executions ended since then than should be read to draw a picture?';
