-- How a job that has a conversation goes on with it: the command line, null where the conversation cannot be resumed
-- here, and the words. With an answer these are the answer; after an execution that ended early they come before the
-- prompt. A conversation lies in files of the machine on which it was held.
create or replace function persona._resumption(p_job persona.jobs) returns jsonb
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_argv text[];
  v_last record;
  v_answer text;
begin
  select a.resume_argv into v_argv from persona.agents as a
  where a.name = p_job.agent and a.keeps_conversation and p_job.session_id is not null;
  select t.lease, coalesce(t.error, t.outcome) as why, t.session_id, r.machine_id into v_last
  from persona.job_attempts as t
  left join persona.runners as r on r.id = t.runner_id
  where t.job_id = p_job.id
  order by t.lease desc limit 1;
  if v_last.machine_id is distinct from (
    select r.machine_id from persona.runners as r where r.id = p_job.runner_id)
  then
    v_argv := null;
  end if;
  select q.answer into v_answer from persona.questions as q
  where q.job_id = p_job.id and q.lease = v_last.lease and q.kind = 'question';
  return jsonb_build_object('argv', to_jsonb(v_argv), 'prompt', v_answer, 'preface', format(
    E'Your last run ended early (%s). Go on where it stopped and finish the task:\n\n', coalesce(v_last.why, 'unknown')));
end $$;
comment on function persona._resumption(persona.jobs) is
  'Internal. Command line and words with which a job resumes its conversation.';
