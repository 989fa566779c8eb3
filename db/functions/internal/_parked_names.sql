-- One look at the index for each name, however many entries are parked under it.
create or replace function persona._parked_names() returns setof text
language sql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off as $$
  with recursive n as (
    (select q.parked_for as name from persona.job_queue as q
     where q.waits_on = 'limit' order by q.parked_for limit 1)
    union all
    select (
      select q.parked_for from persona.job_queue as q
      where q.waits_on = 'limit' and q.parked_for > n.name order by q.parked_for limit 1)
    from n where n.name is not null
  )
  select n.name from n where n.name is not null;
$$;
comment on function persona._parked_names() is 'Internal. Limits and conversations that jobs are parked for.';
