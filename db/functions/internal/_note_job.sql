-- What a marked line asks for: job type, payload and agent. The payload holds the line's own text and nothing else of
-- the note. A code path becomes a working directory only through an agent that an admin has bound to that folder.
create or replace function persona._note_job(
  p_kind text, p_question text, p_code_path text, p_path text, p_line integer,
  out job_type text, out payload jsonb, out agent text)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
begin
  select a.name into agent from persona.agents as a
  where a.name = persona._setting('note_agents')::jsonb ->> p_kind and a.is_active;
  case p_kind
  when 'A' then
    job_type := 'delegate';
    payload := jsonb_build_object('prompt', p_question);
  when 'M' then
    job_type := 'meeting_extract';
    payload := jsonb_build_object('title', p_question, 'text', format(
      'The notes of this meeting are in the note "%s" of the vault, under the entry of that title near line %s, and in the notes that it links to. Read them there.',
      p_path, p_line));
  when 'CB?' then
    job_type := 'research';
    payload := jsonb_build_object('question', p_question);
    if p_code_path is not null then
      payload := payload || jsonb_build_object('code_path', p_code_path,
        'prompt', format(E'\n\nThe question is about the code in %s', p_code_path));
      agent := coalesce((
        select a.name
        from jsonb_each_text(persona._setting('note_code_paths')::jsonb) as c (folder, agent)
        join persona.agents as a on a.name = c.agent
        where (p_code_path = rtrim(c.folder, '/') or starts_with(p_code_path, rtrim(c.folder, '/') || '/'))
          and not '..' = any(string_to_array(p_code_path, '/'))
        order by length(c.folder) desc limit 1), agent);
    end if;
  else
    job_type := 'research';
    payload := jsonb_build_object('question', p_question);
  end case;
end $$;
comment on function persona._note_job(text, text, text, text, integer) is
  'Internal. Job type, payload and agent of a marked line.';
