-- 0008, expand: the agents and job types that come with the product. Rows of the user's own from here on: an
-- install never changes them again. Where a role's instructions are wanted they are arguments of the program, so
-- that its standard input is exactly what was asked.
insert into persona.agents (
  name, description, role, provider, env, argv, stdin_template, workdir, output_format, timeout, costs_money,
  keeps_conversation, may_delegate_to)
select a.name, a.description, a.role, 'anthropic', '{"DISABLE_AUTOUPDATER": "1"}',
  array['claude', '-p', '--output-format', 'json', '--max-turns', '20', '--model', '{model}',
    '--allowedTools', 'Read,Glob,Grep,WebSearch,WebFetch', '--append-system-prompt', a.instructions],
  '{prompt}', '{vault}', 'claude-json', a.timeout::interval, true, true, a.delegates::text[]
from (values
  ('researcher', 'Answers questions from the vault and the web (Claude Code).', 'researcher', '1200 s', '{}',
   'You are a researcher working from a notes vault. Answer the question fully and name your sources.'),
  ('assistant', 'Short everyday tasks (Claude Code).', 'assistant', '300 s', '{researcher}',
   'You are an assistant working from a notes vault. Do the task and say briefly what you did.'),
  ('cro', 'Revenue questions: pipeline, pricing, customers (Claude Code).', 'chief revenue officer', '600 s',
   '{researcher}', 'You are the chief revenue officer. Work from the notes in the vault and state assumptions.'),
  ('engineer', 'Questions on code and systems, read only (Claude Code).', 'engineer', '600 s', '{researcher}',
   'You are a software engineer. Read what you need, change nothing, and answer with file names and lines.'),
  ('project-manager', 'Plans, status and follow-ups; may delegate (Claude Code).', 'project manager', '600 s',
   '{researcher,assistant,engineer}', 'You are a project manager. Work from the notes in the vault and list next steps with owners.')
) as a (name, description, role, timeout, delegates, instructions);

insert into persona.agents (
  name, description, role, provider, argv, stdin_template, workdir, output_format, timeout, costs_money,
  keeps_conversation)
values (
  'gemini-researcher', 'Answers questions from the vault and the web (Gemini CLI).', 'researcher', 'google',
  '{gemini,-m,"{model}",-o,json,--skip-trust,--approval-mode,default,-p,"Answer the request above."}',
  '{prompt}', '{vault}', 'gemini-json', '1200 s', true, true);

insert into persona.agents (name, description, argv, workdir, admin_only) values
  ('shell', 'Runs payload.script with /bin/sh. Admins only.', '{/bin/sh,-c,"{payload.script}"}', '{payload.cwd}', true),
  ('command', 'Runs payload.argv as it is, without a shell; used by persona run. Admins only.',
   '{"{payload.argv...}"}', '{payload.cwd}', true);

insert into persona.job_types (name, description, default_agent, prompt_template, requires_one_of) values
  ('research', 'Answers a question.', 'researcher', '{payload.question}{payload.prompt}', '{question,prompt}'),
  ('meeting_extract', 'Extracts decisions and tasks from meeting notes.', 'assistant',
   E'Extract from the meeting notes below: participants, decisions, and tasks with owner and date. Answer in Markdown.\n\n{payload.title}\n{payload.text}{payload.prompt}',
   '{text,prompt,title}'),
  ('delegate', 'A task that one agent hands to another.', 'assistant', '{payload.task}{payload.question}{payload.prompt}',
   '{task,question,prompt}'),
  ('command', 'A command line, as persona run creates it.', 'command', '', '{}'),
  ('shell', 'A shell script.', 'shell', '', '{script}');

insert into persona.job_types (
  name, description, default_agent, prompt_template, requires_one_of, script_argv, prompt_file)
values (
  'agent_action', 'An action of an agent: the first system''s script where it exists, else the agent''s actions/ACTION.md.',
  'assistant', '{payload.prompt}', '{action,prompt}',
  '{bash,"{root}/scripts/run-agent.sh","{business}","{agent}","{payload.action}","{timeout}"}',
  '{root}/agents/{agent}/actions/{payload.action}.md');
