-- Programs differ in what they report: whatever is not a number counts for nothing.
create or replace function persona._add_tokens(p_one jsonb, p_other jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select jsonb_object_agg(s.key, s.total) from (
    select t.key, sum(t.value::numeric) as total
    from unnest(array[p_one, p_other]) as c (counts)
    cross join lateral jsonb_each(case jsonb_typeof(c.counts) when 'object' then c.counts end) as t (key, value)
    where jsonb_typeof(t.value) = 'number'
    group by t.key) as s;
$$;
comment on function persona._add_tokens(jsonb, jsonb) is 'Internal. Sum of two token counts, key by key.';
