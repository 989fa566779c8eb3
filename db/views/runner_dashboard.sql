create or replace view persona.runner_dashboard as
select r.id, r.name, r.hostname, r.pid,
  case
    when r.ended_at is not null then 'gone'
    when r.last_seen_at < now() - r.lease then 'lost'
    when r.drain_requested_at is not null then 'draining'
    when l.running > 0 then 'busy'
    else 'idle'
  end as status,
  r.capacity, coalesce(l.running, 0) as running, r.agents, r.version, r.last_seen_at, r.registered_at, r.ended_at,
  r.ended_reason
from persona.runners as r
left join (
  select s.runner_id, count(*) as running from persona.job_leases as s group by s.runner_id) as l on l.runner_id = r.id;
comment on view persona.runner_dashboard is 'Runners, the ended ones of the last days included.';
comment on column persona.runner_dashboard.status is 'idle, busy, draining, lost (not seen for its lease) or gone.';
comment on column persona.runner_dashboard.id is 'Made at each registration; named in every runner-side call.';
comment on column persona.runner_dashboard.name is 'Stable name; at most one live runner has it.';
comment on column persona.runner_dashboard.hostname is 'Host name as the runner sees it.';
comment on column persona.runner_dashboard.pid is 'Process id of the runner in its pid namespace.';
comment on column persona.runner_dashboard.capacity is 'Jobs it runs at once.';
comment on column persona.runner_dashboard.running is 'Jobs it runs now.';
comment on column persona.runner_dashboard.agents is 'Agents it serves; null: all.';
comment on column persona.runner_dashboard.version is 'Version of the package.';
comment on column persona.runner_dashboard.last_seen_at is 'Server time of its last sign of life.';
comment on column persona.runner_dashboard.registered_at is 'When it registered.';
comment on column persona.runner_dashboard.ended_at is 'When it left or was found gone; null while it lives.';
comment on column persona.runner_dashboard.ended_reason is 'Why it ended: stopped, replaced, or lost.';
