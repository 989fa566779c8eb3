-- What a condition does not name is not looked at; what the detail does not say does not fit.
create or replace function persona._fits(p_detail jsonb, p_condition jsonb) returns boolean
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select not exists (
    select from jsonb_each(p_condition) as c (key, wanted)
    where not coalesce(case jsonb_typeof(c.wanted)
        when 'number' then jsonb_typeof(p_detail -> c.key) = 'number'
          and (p_detail ->> c.key)::numeric >= (c.wanted #>> '{}')::numeric
        when 'array' then c.wanted @> (p_detail -> c.key)
        else p_detail -> c.key = c.wanted
      end, false));
$$;
comment on function persona._fits(jsonb, jsonb) is
  'Internal. Does the detail of an alert fit the condition of a rule? A number is the least value, an array the choice.';
