-- Takes computed due times and creates what is due. Exactly one job a due time: the row is locked, its revision must be
-- the one that was computed for, and the anchor moves on. One status an item: planned, stale, or broken.
create or replace function persona.plan_schedules(plans jsonb)
returns table (name text, status text, next_due_at timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_plan record;
  v_schedule persona.schedules;
begin
  for v_plan in
    select p.* from jsonb_to_recordset(plan_schedules.plans) as p (
      name text, revision timestamptz, due timestamptz[], next timestamptz, problem text)
    order by p.name
  loop
    name := v_plan.name;
    next_due_at := null;
    select * into v_schedule from persona.schedules as s
    where s.name = v_plan.name and s.updated_at = v_plan.revision and not s.is_paused and not s.is_done
    for no key update;
    if not found then
      status := 'stale';
    elsif v_plan.problem is not null then
      perform persona._break_schedule(v_schedule.name, v_plan.problem);
      status := 'broken';
    else
      -- What is next must lie ahead, or it would be passed over; it is looked at again then.
      perform persona._fire_schedule(v_schedule, v_plan.due, v_plan.next);
      status := 'planned';
      next_due_at := v_plan.next;
    end if;
    return next;
  end loop;
end $$;
comment on function persona.plan_schedules(jsonb) is
  'Runner API. Due times of cron schedules: [{name, revision, due: [times], next: time or null, problem}]. Creates the jobs that are due, each due time once, and returns planned, stale or broken for each.';
