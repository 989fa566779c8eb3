-- What the first system read from log files: the last 100 lines, oldest first, of one job, or of the jobs of an
-- agent on a day. The day is the session's: the wrapper brings the caller's time zone.
create or replace function persona._bridge_local_logs(p_business text, p_agent text, p_date text, p_ref text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_from timestamptz;
  v_to timestamptz;
  v_ids uuid[];
  v_logs jsonb;
begin
  if p_ref is not null then
    begin
      v_ids := array[persona.resolve_job(p_ref)];
    exception when sqlstate 'PJ404' then
      v_ids := '{}';
    end;
  else
    begin
      v_from := p_date::date::timestamptz;
      v_to := (p_date::date + 1)::timestamptz;
    exception when data_exception then
      perform persona._invalid('date', p_date, 'a date such as 2026-02-01 is needed');
    end;
    if v_from is null then
      perform persona._invalid('date', null, 'a date such as 2026-02-01 is needed');
    end if;
    -- Those created on the day before may have run on this one.
    v_ids := array(
      select j.id from persona.jobs as j
      where j.id >= persona._id_floor(v_from - interval '1 day') and j.id < persona._id_floor(v_to)
        and (p_agent is null or j.agent = p_agent)
        and (p_business is null or j.business is null or j.business = p_business)
      order by j.id desc limit 100);
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('timestamp', l.at, 'level', l.level, 'message', l.message,
    'metadata', coalesce(l.metadata, '{}')) order by l.at, l.n desc), '[]')
  into v_logs
  from (
    select g.at, g.level, g.message, g.metadata, g.n
    from unnest(v_ids) as i (id)
    cross join lateral persona._last_logs(i.id, 100) with ordinality as g (at, level, message, metadata, n)
    where p_ref is not null or (g.at >= v_from and g.at < v_to)
    order by g.at desc, g.n limit 100) as l;
  return jsonb_build_object('logs', v_logs, 'source', 'local', 'exists', v_logs <> '[]', 'files_searched', '[]'::jsonb);
end $$;
comment on function persona._bridge_local_logs(text, text, text, text) is 'Internal. get_local_logs of the bridge. PJ422.';
