-- Also the approval of a job that needs one: who released it, and when, is kept in questions.
create or replace function persona.release_job(ref text) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(release_job.ref);
  v_text text;
begin
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
comment on function persona.release_job(text) is
  'Client API. Lets a held job run; approves one that needs approval. One that asked something is answered instead. PJ404, PJ423.';
