-- The state machine, for every writer. The trigger's WHEN lets legal changes pass without a call of this function.
-- A claim grows the lease and a recorded end names it (ended_lease); where a plain UPDATE of the owner does neither,
-- _moved_by_hand keeps leases and history in step, so that no job runs without a lease and no lease without a job.
create or replace function persona._jobs_guard() returns trigger
language plpgsql
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if old.status in ('completed', 'failed', 'cancelled') and new.status = old.status then
    if (new.exit_code, new.error, new.failure_kind, new.completed_at, new.lease, new.attempt, new.result)
       is distinct from
       (old.exit_code, old.error, old.failure_kind, old.completed_at, old.lease, old.attempt, old.result)
    then
      perform persona._raise('PJ423',
        format('job %s has ended (%s): its outcome does not change any more', old.short_id, old.status),
        jsonb_build_object('id', old.id, 'from', old.status, 'to', new.status), null);
    end if;
  elsif new.status <> old.status and not (
    case old.status
      when 'blocked' then new.status in ('pending', 'failed', 'cancelled')
      when 'pending' then new.status in ('running', 'held', 'cancelled')
      when 'running' then new.status in ('pending', 'held', 'completed', 'failed', 'cancelled')
      when 'held' then new.status in ('pending', 'cancelled')
      when 'completed' then false
      else new.status = 'pending' and new.retried_at is not distinct from now()
        and old.retried_at is distinct from new.retried_at and new.completed_at is null
    end)
  then
    perform persona._raise('PJ423',
      format('job %s is %s and cannot become %s', old.short_id, old.status, new.status),
      jsonb_build_object('id', old.id, 'from', old.status, 'to', new.status),
      case when old.status in ('failed', 'cancelled') then 'Only retry_job starts it again.' end);
  elsif new.lease < old.lease then
    perform persona._raise('PJ423', format('the lease number of job %s only grows', old.short_id),
      jsonb_build_object('id', old.id, 'from', old.status, 'to', new.status), null);
  end if;
  if (old.status = 'pending' and new.status = 'running' and new.lease = old.lease)
     or (old.status = 'running' and new.status <> 'running' and new.ended_lease <> old.lease)
  then
    new := persona._moved_by_hand(old, new);
  end if;
  if new.status not in ('blocked', 'pending', 'running', 'held') or new.dedupe_key is null then
    new.dedupe_live := null;
  elsif new.dedupe_live is null or (new.dedupe_key, new.business) is distinct from (old.dedupe_key, old.business) then
    new.dedupe_live := persona._tenant_key(new.business, new.dedupe_key);
  end if;
  new.attention := case when new.status in ('blocked', 'held', 'failed', 'cancelled') then new.status end;
  -- The end of an execution has its place in the history; any other end has it here.
  new.ended_xid := case
    when new.status not in ('completed', 'failed', 'cancelled') or old.status = 'running' then null
    when old.status = new.status then old.ended_xid
    else pg_current_xact_id()::text::bigint
  end;
  if new.updated_at <= old.updated_at then
    new.updated_at := greatest(now(), old.updated_at + interval '1 microsecond');
  end if;
  return new;
end $$;
comment on function persona._jobs_guard() is 'Trigger. Refuses illegal transitions (PJ423), keeps updated_at growing, dedupe_live and attention true.';

-- The two hot changes, a claim and a plain completion, pass without a call. PostgreSQL prepares the condition of each
-- trigger anew for every statement, which for the seven triggers that were here was half of what updating one row cost:
-- so there are two, their conditions are short, and whatever is unusual is told apart in the function.
create or replace trigger jobs_guard before update on persona.jobs
for each row when ((
  new.updated_at > old.updated_at and new.dedupe_key is null and new.attention is null and (
    (old.status = 'pending' and new.status = 'running' and new.lease > old.lease)
    or (old.status = 'running' and new.status = 'completed' and new.lease = old.lease and new.ended_lease = old.lease)))
  is not true)
execute function persona._jobs_guard();
