-- Any change plans anew from now on: due times that passed while it was paused or said something else are no misses.
create or replace function persona.update_schedule(name text, changes jsonb) returns persona.schedules
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_old persona.schedules := persona._schedule(update_schedule.name);
  v_new persona.schedules;
  v_bad text;
  v_at timestamptz;
  v_zone text := current_setting('timezone');
begin
  select k.key into v_bad
  from jsonb_object_keys(
    case jsonb_typeof(update_schedule.changes) when 'object' then update_schedule.changes else '{"": 0}' end) as k (key)
  where k.key not in ('spec', 'job', 'time_zone', 'catch_up', 'overlap', 'is_paused', 'jitter')
  limit 1;
  if found then
    perform persona._invalid('changes', nullif(v_bad, ''),
      'an object with any of: spec, job, time_zone, catch_up, overlap, is_paused, jitter');
  end if;
  begin
    v_new := jsonb_populate_record(v_old, update_schedule.changes);
  exception when data_exception then
    perform persona._invalid('changes', update_schedule.changes::text, sqlerrm);
  end;
  if v_new.catch_up is null or v_new.catch_up not in ('skip', 'one', 'all') then
    perform persona._invalid('catch_up', v_new.catch_up, 'skip, one or all');
  elsif v_new.overlap is null or v_new.overlap not in ('allow', 'skip', 'replace') then
    perform persona._invalid('overlap', v_new.overlap, 'allow, skip or replace');
  elsif v_new.jitter is null or v_new.jitter not between interval '0' and interval '1 day' then
    perform persona._invalid('jitter', v_new.jitter::text, '0 to 1 day');
  elsif not exists (select from pg_timezone_names as z where z.name = v_new.time_zone) then
    perform persona._invalid('time_zone', v_new.time_zone, 'a name of the time zone database is needed, such as Europe/Berlin');
  end if;
  perform persona._check_scheduled_job(v_new.job);

  v_new.spec := btrim(regexp_replace(coalesce(v_new.spec, ''), '\s+', ' ', 'g'));
  v_new.every := null;
  v_new.next_due_at := null;
  v_new.anchor_at := now();
  v_new.is_done := false;
  v_new.problem := null;
  if v_new.spec ~* '^@every ' then
    begin
      v_new.every := make_interval(secs => extract(epoch from substr(v_new.spec, 8)::interval)::double precision);
    exception when data_exception then
      v_new.every := null;
    end;
    if coalesce(v_new.every < interval '1 s', true) then
      perform persona._invalid('spec', v_new.spec, '@every needs an interval of at least a second, such as @every 15 min');
    end if;
    v_new.next_due_at := now() + v_new.every;
  elsif v_new.spec ~* '^@at ' then
    begin
      -- Without a zone of its own it is read in that of the schedule.
      perform set_config('timezone', v_new.time_zone, true);
      v_at := substr(v_new.spec, 5)::timestamptz;
    exception when data_exception then
      perform persona._invalid('spec', v_new.spec, '@at needs a time, such as @at 2030-01-31 09:00');
    end;
    perform set_config('timezone', v_zone, true);
    if not isfinite(v_at) then
      perform persona._invalid('spec', v_new.spec, '@at needs a time, such as @at 2030-01-31 09:00');
    end if;
    v_new.next_due_at := v_at;
    v_new.anchor_at := least(now(), v_at - interval '1 microsecond');
  elsif lower(v_new.spec) <> all('{@hourly,@daily,@midnight,@weekly,@monthly,@yearly,@annually}')
    and v_new.spec !~ '^[0-9A-Za-z*,/#-]+( [0-9A-Za-z*,/#-]+){4}$'
  then
    perform persona._invalid('spec', v_new.spec,
      'a cron expression of five fields, @hourly, @daily, @weekly, @monthly, @yearly, @every INTERVAL or @at TIME');
  end if;

  update persona.schedules as s
  set spec = v_new.spec, time_zone = v_new.time_zone, job = v_new.job, catch_up = v_new.catch_up,
      overlap = v_new.overlap, is_paused = v_new.is_paused, jitter = v_new.jitter, every = v_new.every,
      next_due_at = v_new.next_due_at, anchor_at = v_new.anchor_at, is_done = false, problem = null,
      updated_at = greatest(now(), s.updated_at + interval '1 microsecond')
  where s.name = v_old.name
  returning * into v_new;
  -- Runners that are busy look at it too: upkeep comes at once.
  perform pg_notify('persona_wake', '@schedules');
  return v_new;
end $$;
comment on function persona.update_schedule(text, jsonb) is
  'Admin API. Changes spec, job, time_zone, catch_up, overlap, jitter or is_paused of a schedule, which is then planned anew from now on. PJ404, PJ422.';
