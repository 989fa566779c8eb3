create or replace function persona._add_tokens(p_one jsonb, p_other jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select case
    when p_one is null then p_other
    when p_other is null then p_one
    else (
      select jsonb_object_agg(s.key, s.total) from (
        select t.key, sum(t.value::numeric) as total
        from (select * from jsonb_each_text(p_one) union all select * from jsonb_each_text(p_other)) as t
        group by t.key) as s)
  end;
$$;
comment on function persona._add_tokens(jsonb, jsonb) is 'Internal. Sum of two token counts, key by key.';
