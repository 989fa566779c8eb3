-- Cron expressions that are due or have no next due time yet. Whoever can read them answers with plan_schedules: the
-- due times after "after" and up to "until", the latest "most" of them, and the first one after "until".
create or replace function persona.schedules_to_plan()
returns table (
  name text, spec text, time_zone text, after timestamptz, until timestamptz, most integer, revision timestamptz)
language sql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
  select s.name, s.spec, s.time_zone, s.anchor_at, now(), persona._setting('schedule_max_catch_up')::integer + 1,
    s.updated_at
  from persona.schedules as s
  where not s.is_paused and not s.is_done and s.every is null and s.spec !~* '^@at '
    and (s.next_due_at is null or s.next_due_at <= now())
  order by s.next_due_at nulls first
  limit 100;
$$;
comment on function persona.schedules_to_plan() is
  'Runner API. Cron schedules whose due times somebody has to compute, by the server''s clock; the answer goes to plan_schedules.';
