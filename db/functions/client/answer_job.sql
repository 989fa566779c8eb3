-- A person answers what a job asked: it goes back into the queue and goes on in the same conversation with the answer.
-- Programs without a conversation start again and find questions and answers in payload.answers.
create or replace function persona.answer_job(ref text, answer text) returns persona.jobs
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona._lock_job(answer_job.ref);
  v_question persona.questions;
begin
  if coalesce(btrim(answer_job.answer), '') = '' or length(answer_job.answer) > 1000000 then
    perform persona._invalid('answer', left(answer_job.answer, 100), '1 to 1000000 characters are needed');
  end if;
  select * into v_question from persona.questions as q
  where q.job_id = v_job.id and q.kind = 'question' and q.answered_at is null
  order by q.id desc limit 1;
  if not found then
    perform persona._raise('PJ423', format('job %s has not asked anything', v_job.short_id),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending'),
      case when v_job.status = 'held' then format('persona release %s lets it run.', v_job.short_id)
        else 'persona answer, without arguments, lists what waits for an answer.' end);
  elsif v_job.status <> 'held' then
    perform persona._raise('PJ423', format('job %s asked, but is %s now', v_job.short_id, v_job.status),
      jsonb_build_object('id', v_job.id, 'from', v_job.status, 'to', 'pending'),
      case v_job.status when 'running' then 'Its processes are just being stopped: answer it in a moment.' end);
  end if;
  update persona.questions as q
  set answer = answer_job.answer, answered_at = now(), answered_by = persona._caller()
  where q.id = v_question.id
  returning * into v_question;
  update persona.jobs as j
  set status = 'pending', status_reason = 'answered', cancel_reason = null,
      payload = jsonb_set(j.payload, '{answers}',
        case jsonb_typeof(j.payload -> 'answers') when 'array' then j.payload -> 'answers' else '[]' end
        || jsonb_build_object('question', v_question.text, 'answer', v_question.answer,
          'answeredAt', v_question.answered_at, 'answeredBy', v_question.answered_by)),
      updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
  where j.id = v_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function persona.answer_job(text, text) is
  'Client API. Answers the question for which a job is held: it is pending again and resumes its conversation with the answer. Who answered, and when, is kept in questions. PJ404, PJ422, PJ423.';
