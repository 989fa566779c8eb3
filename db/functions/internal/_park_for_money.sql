-- With what comes behind it of the same kind, which costs the same, so that a long queue is read once. Not where the
-- money is that of one job or tree.
create or replace function persona._park_for_money(p_job_id uuid, p_bucket text, p_needed numeric, p_picked uuid[])
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_job persona.jobs;
  v_name text := format('budget:%s|%s', p_bucket, p_needed);
begin
  select * into v_job from persona.jobs as j where j.id = p_job_id;
  update persona.job_queue as q set waits_on = 'limit', parked_for = v_name where q.seq = v_job.seq;
  if v_job.max_cost_usd is null
     and exists (select from persona._bucket(p_bucket) as b where b.scope in ('total', 'agent', 'business'))
  then
    update persona.job_queue as q set waits_on = 'limit', parked_for = v_name
    where q.seq = any(array(
      select o.seq
      from (
        select f.seq, f.job_id from persona.job_queue as f
        where f.agent = v_job.agent and f.waits_on is null and f.job_id <> all(p_picked)
        order by f.priority desc, f.run_at, f.seq limit 1000 for update skip locked) as o
      join persona.jobs as j on j.id = o.job_id
      where j.job_type = v_job.job_type and j.max_cost_usd is null and j.business is not distinct from v_job.business));
  end if;
end $$;
comment on function persona._park_for_money(uuid, text, numeric, uuid[]) is
  'Internal. Lets a job, and its like, wait until what is reserved in a bucket has been booked or given back.';
