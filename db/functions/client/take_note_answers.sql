-- Gives a machine the answers that are to be written into its copy of a vault. What another machine has taken on and
-- not written within 5 minutes is given again. The rows say where to: the vault's folders are settings.
create or replace function persona.take_note_answers(vault text, host text, max_rows integer default 100)
returns table (
  job_id uuid, short_id text, job_type text, agent text, business text, kind text, question text, path text,
  line integer, folder text, file_name text, completed_at timestamptz, result jsonb)
language sql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
  with ready as (
    select m.vault, m.note, m.marker, m.ordinal
    from persona.note_markers as m
    join persona.jobs as j on j.id = m.job_id and j.status = 'completed'
    where m.vault = take_note_answers.vault and m.answer_path is null
      and (m.answer_taken_at is null or m.answer_host = take_note_answers.host
        or m.answer_taken_at < now() - interval '5 minutes')
    order by j.completed_at
    limit take_note_answers.max_rows
    for no key update of m skip locked
  ), taken as (
    update persona.note_markers as m
    set answer_host = take_note_answers.host, answer_taken_at = now()
    from ready as r
    where (m.vault, m.note, m.marker, m.ordinal) = (r.vault, r.note, r.marker, r.ordinal)
    returning m.*
  )
  select j.id, j.short_id, j.job_type, j.agent, j.business, t.kind,
    coalesce(j.payload ->> 'question', j.payload ->> 'title', j.payload ->> 'prompt'), t.path, t.line,
    persona._setting(case j.job_type when 'meeting_extract' then 'note_meeting_folder' else 'note_answer_folder' end),
    j.short_id || '-' || j.job_type, j.completed_at, j.result
  from taken as t
  join persona.jobs as j on j.id = t.job_id
  order by j.completed_at;
$$;
comment on function persona.take_note_answers(text, text, integer) is
  'Client API. Takes on the finished answers to marked lines of a vault that no other machine is writing; record_note_answer says that one is written.';
