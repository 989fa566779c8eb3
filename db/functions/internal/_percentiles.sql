-- Where a percentile falls between two ends of a bin, it is reckoned with as if they lay there evenly.
create or replace function persona._percentiles(
  p_bins smallint[], p_counts numeric[], p_longest double precision[], p_parts double precision[]
) returns double precision[]
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select array_agg(f.seconds order by f.n)
  from (
    select p.n, min(least(b.longest,
      1.1 ^ b.bin * (1 + 0.1 * greatest(0, (p.part * (b.total - 1) - b.before + 0.5) / b.executions)))) as seconds
    from unnest(p_parts) with ordinality as p (part, n)
    join (
      select u.bin, u.executions, u.longest, sum(u.executions) over (order by u.bin) - u.executions as before,
        sum(u.executions) over () as total
      from unnest(p_bins, p_counts, p_longest) as u (bin, executions, longest)) as b
      on p.part * (b.total - 1) >= b.before and p.part * (b.total - 1) < b.before + b.executions
    group by p.n) as f;
$$;
comment on function persona._percentiles(smallint[], numeric[], double precision[], double precision[]) is
  'Internal. Percentiles (parts of 1) of seconds that are counted by bins.';
