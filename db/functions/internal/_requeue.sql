-- Keeps job_queue in step with a job that became, stayed or stops being pending.
create or replace function persona._requeue(p_old persona.jobs, p_new persona.jobs) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if p_old.status = 'pending' then
    perform persona._lock_keys(array[p_old.lock_key]);
    delete from persona.job_queue as q where q.seq = p_old.seq;
    if p_old.lock_key is not null then
      -- It may have been the one entry of its key that was not parked.
      perform persona._unpark(array[p_old.lock_key]);
    end if;
  end if;
  if p_new.status = 'pending' and (p_old.status = 'blocked' or p_new.agent <> p_old.agent)
     and persona._needs_approval(p_new.agent, p_new.job_type)
  then
    -- Not before now: it waited for other jobs first, or was given to another agent.
    update persona.jobs as j set status = 'held', status_reason = 'needs approval' where j.id = p_new.id;
    perform persona._ask_approval(p_new.id);
  elsif p_new.status = 'pending' then
    insert into persona.job_queue (seq, job_id, agent, priority, run_at, lock_key, waits_on)
    values (p_new.seq, p_new.id, p_new.agent, p_new.priority, p_new.run_at, p_new.lock_key,
      case when p_new.is_external then 'external' else persona._waits_on(p_new.agent, p_new.run_at) end);
    perform persona._wake(p_new.agent);
  end if;
end $$;
comment on function persona._requeue(persona.jobs, persona.jobs) is 'Internal. Moves the entry of a changed job in job_queue.';
