create or replace function persona.cancel_pending_jobs(reason text default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_ids uuid[];
begin
  -- Rows of jobs first, then keys: the order of every writer.
  with waiting as (
    select q.job_id from persona.job_queue as q
    union
    select j.id from persona.jobs as j where j.attention = 'blocked'
  ), locked as (
    -- A job that is just being claimed is no longer pending: it is left alone.
    select j.id from persona.jobs as j
    where j.id in (select w.job_id from waiting as w) and j.status in ('pending', 'blocked')
    order by j.id for no key update skip locked
  )
  select coalesce(array_agg(l.id), '{}') into v_ids from locked as l;
  perform persona._lock_keys(array(
    select j.lock_key from persona.jobs as j where j.id = any(v_ids) and j.lock_key is not null));

  with cancelled as (
    update persona.jobs as j
    set status = 'cancelled', status_reason = cancel_pending_jobs.reason, cancel_reason = cancel_pending_jobs.reason,
        error = coalesce(cancel_pending_jobs.reason, 'cancelled'), failure_kind = 'cancelled', completed_at = now(),
        updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = any(v_ids)
    returning j.id
  )
  select coalesce(array_agg(c.id), '{}') into v_ids from cancelled as c;
  perform persona._settle_dependents(v_ids);
  return cardinality(v_ids);
end $$;
comment on function persona.cancel_pending_jobs(text) is
  'Client API. Cancels every job that has not started (pending and blocked) and returns how many.';
