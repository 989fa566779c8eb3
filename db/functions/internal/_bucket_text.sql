-- The budget by its name, how far it is used, and what is missing.
create or replace function persona._bucket_text(p_bucket text, p_needed numeric) returns text
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  return (
    select coalesce((
      select b.name || case when b.scope in ('agent', 'business') then format(' (%s %s)', b.scope, b.subject) else '' end
        || format(': %s of %s used%s%s, the job needs about %s', persona._money_text(m.booked),
          persona._money_text(b.limit_usd),
          case b.period when 'day' then ' today' when 'month' then ' this month' else '' end,
          case when m.reserved > 0 then format(' and %s reserved for what runs', persona._money_text(m.reserved)) else '' end,
          persona._money_text(p_needed))
      from persona._bucket(p_bucket) as b
      cross join lateral persona._money_of(b.scope, b.subject, b.period) as m), 'that is gone'));
end $$;
comment on function persona._bucket_text(text, numeric) is 'Internal. How a bucket stands, for people.';
