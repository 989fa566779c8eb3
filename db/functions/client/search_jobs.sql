-- A page of jobs at a bounded cost, whatever the queue holds and however rare a match is: candidates come along an
-- index, in windows that grow, and at most max_scanned of them are looked at. Where those were not enough, a last row
-- without a job tells the place to go on from. A text is looked for in the whole of a payload, which may be long: such
-- a search ends sooner, and also after a while.
create or replace function persona.search_jobs(
  status text default null, agent text default null, job_type text default null, business text default null,
  tag text default null, search text default null, sort text default 'newest', after text default null,
  max_rows integer default 50, max_scanned integer default null
) returns table (place text, job persona.job_dashboard)
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
  v_statuses constant text[] := array[
    'blocked', 'pending', 'running', 'hung', 'held', 'completed', 'failed', 'cancelled'];
  v_place constant text[] := regexp_match(search_jobs.after, '^(?:(-?\d+(?:\.\d+)?)~)?([0-9a-f-]{36})$');
  v_from uuid;
  v_window uuid[];
  v_scanned integer := 0;
  v_step integer := search_jobs.max_rows;
  v_left integer := search_jobs.max_rows;
  v_found integer;
  v_is_over boolean := false;
  v_most constant integer := coalesce(search_jobs.max_scanned, case
    when search_jobs.search is not null then 4000 when search_jobs.sort in ('newest', 'oldest') then 20000 else 10000 end);
  v_widest constant integer := case when search_jobs.search is null then 1000000 else 500 end;
  v_until constant timestamptz := clock_timestamp() + interval '800 ms';
begin
  if search_jobs.status is not null and search_jobs.status <> all(v_statuses) then
    perform persona._invalid('status', search_jobs.status, 'one of ' || array_to_string(v_statuses, ', '));
  elsif search_jobs.sort is null
      or search_jobs.sort <> all(array['newest', 'oldest', 'duration', 'cost', 'priority', 'ended']) then
    perform persona._invalid('sort', search_jobs.sort, 'one of newest, oldest, duration, cost, priority, ended');
  elsif search_jobs.max_rows is null or search_jobs.max_rows not between 1 and 1000 then
    perform persona._invalid('max_rows', search_jobs.max_rows::text, '1 to 1000 is allowed');
  elsif search_jobs.max_scanned not between 1 and 1000000 then
    perform persona._invalid('max_scanned', search_jobs.max_scanned::text, '1 to 1000000 is allowed');
  elsif search_jobs.after is not null
      and (v_place is null or (v_place[1] is null) <> (search_jobs.sort in ('newest', 'oldest'))) then
    perform persona._invalid('after', left(search_jobs.after, 100), 'the place of a row of the same sort is needed');
  end if;
  v_from := v_place[2]::uuid;

  if search_jobs.sort not in ('newest', 'oldest') then
    -- By a value that no index has: the newest ones are sorted.
    v_window := array(
      select w.id from persona._job_window(search_jobs.status, null, false, v_most) as w (id));
    return query
      select p.value || '~' || p.id, d
      from (
        select j.id, v.value
        from persona.jobs as j
        cross join lateral (
          select coalesce(case search_jobs.sort
            when 'duration' then extract(epoch from coalesce(j.completed_at,
              case when j.status = 'running' then now() end) - j.started_at)
            when 'cost' then j.cost_usd
            when 'priority' then j.priority
            else extract(epoch from j.completed_at) end, -1000000000) as value) as v
        where j.id = any(v_window)
          and persona._job_matches(j, search_jobs.status, search_jobs.agent, search_jobs.job_type,
            search_jobs.business, search_jobs.tag, search_jobs.search)
          and (v_from is null or (v.value, j.id) < (v_place[1]::numeric, v_from))
        order by v.value desc, j.id desc
        limit search_jobs.max_rows) as p
      join persona.job_dashboard as d on d.id = p.id
      order by p.value desc, p.id desc;
    return;
  end if;

  while v_left > 0 and v_scanned < v_most loop
    v_step := least(v_step, v_most - v_scanned, v_widest);
    v_window := array(
      select w.id
      from persona._job_window(search_jobs.status, v_from, search_jobs.sort = 'oldest', v_step) as w (id));
    return query
      select p.id::text, d
      from (
        select j.id, w.n
        from unnest(v_window) with ordinality as w (id, n)
        join persona.jobs as j on j.id = w.id
        where persona._job_matches(j, search_jobs.status, search_jobs.agent, search_jobs.job_type,
          search_jobs.business, search_jobs.tag, search_jobs.search)
        order by w.n
        limit v_left) as p
      join persona.job_dashboard as d on d.id = p.id
      order by p.n;
    get diagnostics v_found = row_count;
    v_left := v_left - v_found;
    v_scanned := v_scanned + cardinality(v_window);
    v_from := coalesce(v_window[cardinality(v_window)], v_from);
    v_is_over := cardinality(v_window) < v_step;
    exit when v_is_over or (search_jobs.search is not null and clock_timestamp() > v_until);
    v_step := 4 * v_step;
  end loop;
  if v_left > 0 and not v_is_over then
    place := v_from;
    return next;
  end if;
end $$;
comment on function persona.search_jobs(text, text, text, text, text, text, text, text, integer, integer) is
  'Viewer API. A page of jobs as rows of job_dashboard, filtered, searched (text of the payload and what surrounds it) and sorted: newest, oldest, or by duration, cost, priority or ended among the newest max_scanned (20,000; 10,000 where they are sorted by a value, 4,000 where a text is searched for). after is the place of the last row seen; a row without a job says that max_scanned were looked at, and where to go on. PJ422.';
