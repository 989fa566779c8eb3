-- A schedule creates its job at each due time, exactly once with however many runners. Cron expressions are evaluated by
-- a runner (no library for them here): it is woken for it, and says when the next due time is.
create or replace function persona.create_schedule(
  name text, spec text, job jsonb, time_zone text default 'UTC', catch_up text default 'skip',
  overlap text default 'allow', is_paused boolean default false, jitter interval default '0'
) returns persona.schedules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_schedule persona.schedules;
begin
  if coalesce(create_schedule.name, '') !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$' then
    perform persona._invalid('name', create_schedule.name,
      'letters, digits, ".", "_" and "-" are allowed, at most 100, beginning with a letter or digit');
  end if;
  insert into persona.schedules as s (name, spec, job) values (create_schedule.name, '', '{}')
  on conflict do nothing;
  if not found then
    perform persona._raise('PJ409', format('there is a schedule %s already', create_schedule.name),
      jsonb_build_object('name', create_schedule.name), 'Change it with update_schedule, or remove it first.');
  end if;
  v_schedule := persona.update_schedule(create_schedule.name, jsonb_build_object(
    'spec', create_schedule.spec, 'job', create_schedule.job, 'time_zone', create_schedule.time_zone,
    'catch_up', create_schedule.catch_up, 'overlap', create_schedule.overlap,
    'is_paused', coalesce(create_schedule.is_paused, false), 'jitter', coalesce(create_schedule.jitter, '0')));
  return v_schedule;
end $$;
comment on function persona.create_schedule(text, text, jsonb, text, text, text, boolean, interval) is
  'Admin API. Creates a schedule. spec: a cron expression of five fields read in time_zone, @hourly, @daily, @weekly, @monthly, @yearly, @every INTERVAL, or @at TIME. job: arguments of create_job. catch_up: skip, one or all of the due times that passed while no runner was there. overlap: allow, skip or replace. PJ409, PJ422.';
