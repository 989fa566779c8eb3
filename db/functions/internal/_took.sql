-- How long executions ran and had waited. One was ready from its job's creation, its due time, or the end of the
-- execution before it, whichever came last.
create or replace function persona._took(p_from bigint, p_to bigint, p_since timestamptz, p_until timestamptz)
returns setof persona.activity_times
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set jit = off
set plan_cache_mode = force_custom_plan as $$
begin
  return query
    select t.at, t.kind, t.job_type, persona._bin(t.seconds), count(*), max(t.seconds)
    from (
      select date_bin(k.width, k.at, timestamptz '2000-01-01 00:00Z') as at, k.kind, k.job_type,
        extract(epoch from k.took)::double precision as seconds
      from persona.job_attempts as a
      join persona.jobs as j on j.id = a.job_id
      cross join lateral (values
        (interval '1 hour', a.ended_at, 'ran', j.job_type, case when a.is_counted then a.ended_at - a.started_at end),
        (interval '15 minutes', a.started_at, 'waited', '', a.started_at - greatest(j.created_at,
          case when j.run_at <= a.started_at then j.run_at end,
          (select max(b.ended_at) from persona.job_attempts as b where b.job_id = a.job_id and b.lease < a.lease)))
        ) as k (width, at, kind, job_type, took)
      where a.ended_xid >= p_from and a.ended_xid < p_to and a.ended_at >= p_since and a.ended_at < p_until
        and k.took is not null) as t
    group by 1, 2, 3, 4;
end $$;
comment on function persona._took(bigint, bigint, timestamptz, timestamptz) is
  'Internal. Rows of activity_times from executions whose end was recorded in transactions from p_from on and below p_to, and that ended from p_since on and before p_until.';
