-- 0015, expand: what a job of an agent may use of its machine.
-- Online: runners that predate it pass over one more key of a claimed job, and set no limits.
alter table persona.agents
  add column memory_limit bigint
    constraint agents_memory_limit_sensible check (memory_limit >= 1048576),
  add column cpu_limit double precision
    constraint agents_cpu_limit_sensible check (cpu_limit between 0.01 and 10000),
  add column process_limit integer
    constraint agents_process_limit_positive check (process_limit > 0),
  add column open_files_limit integer
    constraint agents_open_files_limit_sensible check (open_files_limit between 16 and 1048576),
  add column file_size_limit bigint
    constraint agents_file_size_limit_positive check (file_size_limit > 0),
  add column nice integer
    constraint agents_nice_sensible check (nice between 0 and 19);
comment on column persona.agents.memory_limit is 'Bytes of memory that all processes of a job may use together; one that uses more is killed and fails as out of memory. Null: no limit.';
comment on column persona.agents.cpu_limit is 'Processors that a job may keep busy, such as 1.5; rounded up to whole ones. Null: all.';
comment on column persona.agents.process_limit is 'Processes that a job may have at once, its first one counted; one that has more is killed and fails. Null: no limit.';
comment on column persona.agents.open_files_limit is 'Descriptors that each process of a job may have open. Null: as many as the runner.';
comment on column persona.agents.file_size_limit is 'Bytes of the largest file that a process of a job may write. Null: no limit.';
comment on column persona.agents.nice is 'How far its jobs stand back for others at the processor: 0 to 19. Null: as the runner.';

-- One document, so that another limit is another key.
alter type persona.claimed_job add attribute resource_limits jsonb;

-- Its signature grows by defaulted arguments: a replaced function would be an overload.
drop function if exists persona.register_agent(
  text, text[], text, text, jsonb, text, text, interval, interval, interval, bigint, integer, integer, text, text, text,
  boolean, boolean, boolean, boolean, boolean, text[], text[], text[], boolean);
