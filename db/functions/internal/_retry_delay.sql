-- Exponential backoff with equal jitter: half of the delay is fixed, half is random, so that jobs which failed
-- together do not come back together. Source: M. Brooker, "Exponential Backoff And Jitter", AWS, 2015.
create or replace function persona._retry_delay(p_attempt integer) returns interval
language sql volatile
set search_path = pg_catalog, persona, pg_temp as $$
  select make_interval(secs => d.seconds / 2 + random() * d.seconds / 2)
  from (
    select least(
      persona._setting('retry_cap_seconds')::double precision,
      persona._setting('retry_base_seconds')::double precision * 2 ^ least(p_attempt - 1, 30)) as seconds
  ) as d;
$$;
comment on function persona._retry_delay(integer) is 'Internal. Backoff after the attempt of that number, from 1.';
