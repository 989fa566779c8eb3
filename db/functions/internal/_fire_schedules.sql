-- @every and @at need no library. What somebody else is just firing is left to them.
create or replace function persona._fire_schedules() returns integer
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_schedule persona.schedules;
  v_most integer := persona._setting('schedule_max_catch_up')::integer;
  v_passed bigint;
  v_made integer := 0;
begin
  for v_schedule in
    select * from persona.schedules as s
    where not s.is_paused and not s.is_done and s.next_due_at <= now()
      and (s.every is not null or s.spec ~* '^@at ')
    order by s.next_due_at for no key update skip locked
  loop
    if v_schedule.every is null then
      v_made := v_made + persona._fire_schedule(v_schedule, array[v_schedule.next_due_at], null);
      continue;
    end if;
    v_passed := floor(extract(epoch from now() - v_schedule.anchor_at) / extract(epoch from v_schedule.every));
    v_made := v_made + persona._fire_schedule(
      v_schedule,
      array(
        select v_schedule.anchor_at + n.n * v_schedule.every
        from generate_series(greatest(1, v_passed - v_most), v_passed) as n (n)),
      v_schedule.anchor_at + (v_passed + 1) * v_schedule.every);
  end loop;
  return v_made;
end $$;
comment on function persona._fire_schedules() is 'Internal. Creates the jobs of @every and @at schedules that are due.';
