-- 0019, expand: limits on a type, on a key and in total; one live use of a conversation; policies of dependencies.
-- Online: nullable columns; a lease that an older claim wrote meanwhile has no type and ends within its time.
create table persona.limits (
  name text primary key constraint limits_name_known check (name = 'total' or name ~ '^(type|key):.'),
  max_running integer not null constraint limits_max_running_not_negative check (max_running >= 0),
  updated_at timestamptz not null default now()
);
comment on table persona.limits is 'So many jobs may run at once on all machines together. Those of agents are in agents.max_concurrent.';
comment on column persona.limits.name is 'total, type:JOB_TYPE, or key:LIMIT_KEY.';
comment on column persona.limits.max_running is 'So many at most.';
comment on column persona.limits.updated_at is 'Last change.';

alter table persona.jobs add column limit_key text;
comment on column persona.jobs.limit_key is 'Counts against the limit key:LIMIT_KEY while it runs.';

alter table persona.job_queue add column parked_for text;
comment on column persona.job_queue.parked_for is
  'Where waits_on is limit: the limit that was reached, or conversation:SESSION_ID where that is in use.';
create index job_queue_limit_idx on persona.job_queue (parked_for, agent, priority desc, run_at, seq)
  where waits_on = 'limit';

alter table persona.job_leases add column job_type text;
alter table persona.job_leases add column limit_key text;
alter table persona.job_leases add column session_id text;
comment on column persona.job_leases.job_type is 'Of the job.';
comment on column persona.job_leases.limit_key is 'Of the job.';
comment on column persona.job_leases.session_id is 'The conversation that it resumes.';
update persona.job_leases as l set job_type = j.job_type, session_id = j.session_id
from persona.jobs as j where j.id = l.job_id;
-- The type goes into the index that is there: one agent after the other is asked for the jobs of a limited type.
drop index persona.job_leases_agent_idx;
create index job_leases_agent_idx on persona.job_leases (agent, job_type);
create index job_leases_limit_key_idx on persona.job_leases (limit_key) where limit_key is not null;
create index job_leases_session_idx on persona.job_leases (session_id) where session_id is not null;

-- Their signatures grow: a replaced function would be an overload.
drop function if exists persona.create_job(
  text, jsonb, text, uuid, integer, timestamptz, interval, interval, integer, text, text, uuid, uuid[], text[],
  text, integer, text, text);
drop function if exists persona._job_items(jsonb);
drop function if exists persona._add_dependencies(uuid, uuid[]);
