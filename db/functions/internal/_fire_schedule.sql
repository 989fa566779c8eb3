-- What is due is decided here, with the row of the schedule locked. The latest due time within the grace is on time;
-- the others were missed, and catch_up says which of those still count.
create or replace function persona._fire_schedule(
  p_schedule persona.schedules, p_due timestamptz[], p_next timestamptz
) returns integer
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_due timestamptz[] := array(
    select distinct d.at from unnest(p_due) as d (at)
    where d.at > p_schedule.anchor_at and d.at <= now()
      and not exists (select from persona.schedule_runs as r where r.schedule = p_schedule.name and r.due_at = d.at)
    order by d.at);
  v_count integer := cardinality(v_due);
  v_most integer := persona._setting('schedule_max_catch_up')::integer;
  v_grace interval := make_interval(secs => persona._setting('schedule_grace_seconds')::double precision);
  v_last uuid;
  v_job_id uuid;
  v_outcome text;
  v_at timestamptz;
  v_is_on_time boolean;
  v_made integer := 0;
begin
  for i in 1 .. v_count loop
    v_at := v_due[i];
    v_is_on_time := i = v_count and v_at >= now() - v_grace;
    v_job_id := null;
    if not v_is_on_time and not (case p_schedule.catch_up
      when 'all' then i > v_count - v_most when 'one' then i = v_count else false end)
    then
      v_outcome := 'missed';
    else
      select r.job_id into v_last from persona.schedule_runs as r
      where r.schedule = p_schedule.name and r.job_id is not null order by r.due_at desc limit 1;
      v_outcome := case when v_is_on_time then 'created' else 'late' end;
      if p_schedule.overlap <> 'allow' and exists (
        select from persona.jobs as j
        where j.id = v_last and j.status in ('blocked', 'pending', 'running', 'held'))
      then
        if p_schedule.overlap = 'skip' then
          v_outcome := 'overlap';
        else
          perform persona._stop_job(v_last, format('replaced by the next one of schedule %s', p_schedule.name),
            false, 'cancelled');
        end if;
      end if;
      if v_outcome <> 'overlap' then
        begin
          v_job_id := persona._plant_job(
            p_schedule.job || jsonb_build_object(
              'payload', jsonb_build_object('schedule', p_schedule.name, 'due_at', v_at)
                || coalesce(p_schedule.job -> 'payload', '{}'),
              'tags', coalesce(p_schedule.job -> 'tags', '[]') || jsonb_build_array('schedule:' || p_schedule.name),
              'run_at', greatest(v_at, now()) + random() * p_schedule.jitter),
            case when v_is_on_time then null else format('due %s, %s late (schedule %s)',
              v_at, date_trunc('second', now() - v_at), p_schedule.name) end);
          v_made := v_made + 1;
        exception when raise_exception or data_exception or integrity_constraint_violation or sqlstate 'PJ422' then
          perform persona._break_schedule(p_schedule.name, sqlerrm);
          v_outcome := 'failed';
        end;
      end if;
    end if;
    insert into persona.schedule_runs (schedule, due_at, job_id, outcome, late)
    values (p_schedule.name, v_at, v_job_id, v_outcome, now() - v_at)
    on conflict do nothing;
  end loop;

  update persona.schedules as s
  set next_due_at = p_next, is_done = p_next is null,
      anchor_at = case when v_count > 0 then v_due[v_count] else s.anchor_at end,
      last_due_at = case when v_made > 0 then v_at else s.last_due_at end,
      updated_at = greatest(now(), s.updated_at + interval '1 microsecond')
  where s.name = p_schedule.name;
  if v_count > 0 then
    delete from persona.schedule_runs as r
    where r.schedule = p_schedule.name and r.due_at < (
      select o.due_at from persona.schedule_runs as o where o.schedule = p_schedule.name
      order by o.due_at desc offset persona._setting('schedule_keep_runs')::integer limit 1);
  end if;
  return v_made;
end $$;
comment on function persona._fire_schedule(persona.schedules, timestamptz[], timestamptz) is
  'Internal. Decides about due times of a locked schedule, creates its jobs, and says when it is due next.';
