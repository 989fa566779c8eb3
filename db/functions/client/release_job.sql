-- Also the approval of a job that needs one: who released it, and when, is kept in questions.
-- More money goes to the job whatever it is doing: it may be held itself, or jobs below it for what it may cost. A job
-- that would only be held again for the same budget is not released.
create or replace function persona.release_job(ref text, max_cost_usd numeric default null) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(release_job.ref);
  v_text text;
  v_bucket text;
  v_needed numeric;
begin
  if release_job.max_cost_usd <= 0 then
    perform persona._invalid('max_cost_usd', release_job.max_cost_usd::text, 'more than 0 is needed');
  elsif release_job.max_cost_usd is not null and v_job.status in ('blocked', 'pending', 'running', 'held') then
    update persona.jobs as j
    set max_cost_usd = release_job.max_cost_usd, updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
    where j.id = v_job.id
    returning * into v_job;
    if v_job.status <> 'held' then
      perform persona._reopen_budgets('@' || v_job.id);
      perform persona._wake('*');
      return v_job;
    end if;
  end if;
  if v_job.status <> 'held' then
    perform persona._raise('PJ423', format('job %s is %s, not held', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending'), null);
  end if;
  select q.text into v_text from persona.questions as q
  where q.job_id = v_job.id and q.kind = 'question' and q.answered_at is null
  limit 1;
  if found then
    perform persona._raise('PJ423', format('job %s waits for an answer: %s', v_job.short_id, left(v_text, 200)),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending', 'question', v_text),
      format('persona answer %s TEXT, or answer_job().', v_job.short_id));
  end if;
  if v_job.failure_kind = 'budget' or exists (select from persona.budget_holds as h where h.job_id = v_job.id) then
    v_needed := persona._cost_ahead(v_job);
    select b.bucket into v_bucket from persona._buckets(v_job) as b
    where persona._bucket_fits(b.bucket, v_needed) = -1 order by b.bucket desc limit 1;
    if found then
      perform persona._raise('PJ402',
        format('job %s is over budget %s', v_job.short_id, persona._bucket_text(v_bucket, v_needed)),
        jsonb_build_object('id', v_job.id, 'budget', v_bucket, 'needed_usd', v_needed), case
          when v_bucket = '@' || v_job.id then format('persona release %s --max-cost USD gives it more.', v_job.short_id)
          when v_bucket like '@%' then format('persona release %s --max-cost USD gives more to the job above it.',
            right(v_bucket, 8))
          else format('An admin may raise it: persona budget set %s USD.', split_part(v_bucket, ':', 1)) end);
    end if;
    delete from persona.budget_holds as h where h.job_id = v_job.id;
  end if;
  update persona.questions as q
  set answer = 'approved', answered_at = now(), answered_by = persona._caller()
  where q.job_id = v_job.id and q.kind = 'approval' and q.answered_at is null;
  update persona.jobs as j
  set status = 'pending', status_reason = null, cancel_reason = null,
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = v_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function persona.release_job(text, numeric) is
  'Client API. Lets a held job run; approves one that needs approval. One that asked something is answered instead. max_cost_usd is what the job and all below it may cost from now on, also of one that is not held. PJ404, PJ423, PJ402 where a budget has no room for it.';
