-- Upkeep, called by every runner now and then; an advisory lock lets one through, the others return at once.
-- Each part stands alone: DDL on job_logs gives up after 100 ms and comes again next time, because a lock on the
-- log table that waits behind one long reader would make every append wait behind it.
create or replace function persona.tick(log_retention_days integer default null) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_recovered integer;
  v_lost integer;
  v_days constant integer := persona._setting('job_retention_days')::integer;
begin
  if not pg_try_advisory_xact_lock(hashtext('persona.tick'), 0) then
    return jsonb_build_object('skipped', true);
  end if;
  select count(*) into v_recovered from persona.recover_hung_jobs();

  -- Runners that have not been heard of for longer than their lease hold nothing any more.
  with lost as (
    update persona.runners as r set ended_at = now(), ended_reason = 'lost'
    where r.ended_at is null and r.last_seen_at < now() - 2 * r.lease
      and not exists (select from persona.job_leases as l where l.runner_id = r.id)
    returning r.id
  ), unmarked as (
    delete from persona.idle_runners as i where i.runner_id in (select l.id from lost as l)
  )
  select count(*) into v_lost from lost;
  delete from persona.runners as r
  where r.ended_at < now() - make_interval(days => persona._setting('runner_retention_days')::integer)
    and not exists (select from persona.job_leases as l where l.runner_id = r.id);

  -- Events lie in the order of their ids: the first thousand show whether any is past its retention.
  delete from persona.events as e
  where e.id = any(array(
    select o.id from (select f.id, f.created_at from persona.events as f order by f.id limit 1000) as o
    where o.created_at < now() - make_interval(days => persona._setting('event_retention_days')::integer)));

  perform persona._watch_queue_age();
  perform persona._fire_schedules();
  perform persona._age_priorities();
  perform persona._count_executions();
  perform persona._count_activity();
  perform persona._mark_server();
  if v_days > 0 then
    perform persona.cleanup_old_jobs(v_days, max_jobs => 2000);
  end if;
  if exists (select from persona.cost_fresh) then
    perform persona._total_costs();
  end if;
  if exists (select from persona.budget_holds) then
    perform persona._reopen_budgets();
  end if;

  return jsonb_build_object(
    -- For who can read cron expressions, and when to come back: a busy runner asks for no idle state.
    'to_plan', (select jsonb_agg(p) from persona.schedules_to_plan() as p),
    'next_schedule_seconds', (
      select greatest(0, extract(epoch from s.next_due_at - now())) from persona.schedules as s
      where not s.is_paused and not s.is_done and s.next_due_at is not null
      order by s.next_due_at limit 1),
    'recovered', v_recovered, 'runners_lost', v_lost, 'log_partitions', persona._upkeep_logs(tick.log_retention_days));
end $$;
comment on function persona.tick(integer) is
  'Runner API. Upkeep: hung jobs, lost runners, log partitions (kept for so many days; null: the setting log_retention_days). Returns what was done, or {"skipped": true} while another session does it.';
