-- Jobs have ended: those that waited for them go on, or fail where a needed job did not succeed; their failure in
-- turn settles what waited for them. The waiting job is locked before its open needs are counted, so that of two
-- needs which end at the same moment the later one sees the other.
create or replace function persona._settle_dependents(p_ended uuid[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_ended uuid[] := p_ended;
  v_waiting uuid[];
begin
  while cardinality(v_ended) > 0 loop
    v_waiting := array(
      select distinct d.job_id from persona.job_dependencies as d
      where d.needs_job_id = any(v_ended) and not d.is_settled);
    exit when cardinality(v_waiting) = 0;
    perform from persona.jobs as j where j.id = any(v_waiting) order by j.id for no key update;

    update persona.job_dependencies as d set is_settled = true
    from persona.jobs as n
    where d.needs_job_id = any(v_ended) and not d.is_settled and n.id = d.needs_job_id
      and (n.status = 'completed' or d.policy = 'finished');

    with failed as (
      update persona.jobs as j
      set status = 'failed', completed_at = now(), failure_kind = 'dependency',
          error = format('needed job %s ended as %s', n.short_id, n.status), status_reason = null,
          updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
      from persona.job_dependencies as d
      join persona.jobs as n on n.id = d.needs_job_id
      where d.needs_job_id = any(v_ended) and not d.is_settled
        and n.status in ('failed', 'cancelled')
        and j.id = d.job_id and j.status = 'blocked'
      returning j.id
    )
    select coalesce(array_agg(distinct f.id), '{}') into v_ended from failed as f;

    update persona.jobs as j
    set status = 'pending', status_reason = null,
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = any(v_waiting) and j.status = 'blocked'
      and not exists (
        select from persona.job_dependencies as d where d.job_id = j.id and not d.is_settled);
  end loop;
end $$;
comment on function persona._settle_dependents(uuid[]) is 'Internal. Unblocks or fails the jobs that waited for these ended ones.';
