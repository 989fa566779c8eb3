-- 0002, expand: agents (how something is run) and job types (what is asked of them).
create table persona.agents (
  name text primary key
    constraint agents_name_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  description text not null default '',
  role text,
  provider text,
  model text,
  argv text[] not null
    constraint agents_argv_has_program check (cardinality(argv) >= 1 and argv[1] <> ''),
  stdin_template text,
  env jsonb not null default '{}'
    constraint agents_env_is_object check (jsonb_typeof(env) = 'object'),
  workdir text,
  output_format text not null default 'plain'
    constraint agents_output_format_known check (output_format in (
      'plain', 'jsonl', 'claude-json', 'claude-stream-json', 'gemini-json', 'gemini-stream-json', 'codex-jsonl')),
  timeout interval constraint agents_timeout_positive check (timeout > interval '0'),
  idle_timeout interval constraint agents_idle_timeout_positive check (idle_timeout > interval '0'),
  kill_grace interval constraint agents_kill_grace_positive check (kill_grace >= interval '0'),
  output_limit bigint constraint agents_output_limit_positive check (output_limit > 0),
  max_attempts integer constraint agents_max_attempts_positive check (max_attempts > 0),
  max_concurrent integer constraint agents_max_concurrent_positive check (max_concurrent > 0),
  is_active boolean not null default true,
  is_external boolean not null default false,
  admin_only boolean not null default false,
  costs_money boolean not null default false,
  keeps_conversation boolean not null default false,
  may_delegate_to text[] not null default '{}',
  launcher text[] not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table persona.agents is 'Registered ways to run something. Only an admin may register one: the right to create jobs is not the right to run code.';
comment on column persona.agents.name is 'Key, as typed in persona create -a NAME.';
comment on column persona.agents.description is 'What it is for, in a sentence.';
comment on column persona.agents.role is 'Role for people, such as researcher.';
comment on column persona.agents.provider is 'Whose API it calls (anthropic, google, openai); gates close by provider.';
comment on column persona.agents.model is 'Model for the placeholder {model}; null: CLAUDE_MODEL or GEMINI_MODEL of the runner, by provider.';
comment on column persona.agents.argv is 'Program and arguments. A placeholder such as {prompt}, {model}, {vault} or {payload.KEY} stays inside its one argument; the single element {payload.KEY...} becomes one argument for each element of that JSON array.';
comment on column persona.agents.stdin_template is 'Text given on standard input, from a file, usually {prompt}; null: /dev/null.';
comment on column persona.agents.env is 'Environment variables set for the program beside the allow-list. No secrets here: any viewer can read them.';
comment on column persona.agents.workdir is 'Working directory, placeholders {vault}, {root} and {payload.KEY} allowed; null or empty: the home folder of the runner.';
comment on column persona.agents.output_format is 'How its standard output is read for the verdict.';
comment on column persona.agents.timeout is 'Total time of an attempt unless the job says otherwise; null: JOB_TIMEOUT of the runner.';
comment on column persona.agents.idle_timeout is 'Longest silence on all outputs unless the job says otherwise; null: JOB_IDLE_TIMEOUT of the runner.';
comment on column persona.agents.kill_grace is 'Time between SIGTERM and SIGKILL; null: JOB_KILL_GRACE of the runner.';
comment on column persona.agents.output_limit is 'Bytes of each output stream kept in job_logs; null: JOB_OUTPUT_LIMIT of the runner.';
comment on column persona.agents.max_attempts is 'Counted attempts unless the job says otherwise; null: 1 where it costs money, else 3.';
comment on column persona.agents.max_concurrent is 'Most jobs of this agent running at once on all machines together; null: no limit.';
comment on column persona.agents.is_active is 'False: its jobs wait.';
comment on column persona.agents.is_external is 'True: no runner claims its jobs; a program outside drives them through the bridge.';
comment on column persona.agents.admin_only is 'True: only an admin may create jobs for it (it runs what the payload says).';
comment on column persona.agents.costs_money is 'True: a second attempt is a second bill, so the default is one attempt.';
comment on column persona.agents.keeps_conversation is 'True: a retry resumes the conversation of the last attempt.';
comment on column persona.agents.may_delegate_to is 'Agents for which its jobs may create child jobs.';
comment on column persona.agents.launcher is 'Arguments put before argv, such as srun or nice; it must pass signals and the exit code on.';
comment on column persona.agents.created_at is 'When it was registered.';
comment on column persona.agents.updated_at is 'Last change.';

create table persona.job_types (
  name text primary key,
  description text not null default '',
  default_agent text references persona.agents (name),
  prompt_template text not null default '{payload.prompt}',
  requires_one_of text[] not null default '{}',
  script_argv text[],
  prompt_file text
);
comment on table persona.job_types is 'Known job types with their prompt templates. Any other type may be used too: its prompt is payload.prompt.';
comment on column persona.job_types.name is 'Key, as typed in persona create -t NAME.';
comment on column persona.job_types.description is 'What it is for, in a sentence.';
comment on column persona.job_types.default_agent is 'Agent of a job that names none.';
comment on column persona.job_types.prompt_template is 'What {prompt} stands for; {payload.KEY} is that value of the payload, empty where it is missing.';
comment on column persona.job_types.requires_one_of is 'A job of this type must carry at least one of these payload keys with text in it; empty: no rule.';
comment on column persona.job_types.script_argv is 'Argv run instead of the agent''s where its script (the second element) exists on the runner''s machine.';
comment on column persona.job_types.prompt_file is 'File whose text is the prompt where it exists on the runner''s machine.';
