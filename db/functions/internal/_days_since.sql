-- Each UTC day from then until today: the days under which messages about a job can lie.
create or replace function persona._days_since(p_since timestamptz) returns setof date
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select d.day::date
  from generate_series(
    (p_since at time zone 'UTC')::date, (now() at time zone 'UTC')::date, interval '1 day') as d (day);
$$;
comment on function persona._days_since(timestamptz) is 'Internal. UTC days from a time until today.';
