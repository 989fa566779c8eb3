-- A view and not a function, so that the statements of a claim keep one plan with it.
-- A gate is shut while it is closed and not yet due, or while its probe runs; a probe whose lease is gone is none.
create or replace view persona.open_agents as
select a.name, a.max_concurrent, a.provider,
  exists (
    select from persona.gates as g
    where g.provider = a.provider and g.account in ('', a.account) and g.state <> 'open') as needs_probe
from persona.agents as a
where a.is_active and not a.is_external
  and not exists (
    select from persona.gates as g
    where g.provider = a.provider and g.account in ('', a.account)
      and case g.state
        when 'closed' then g.reopens_at is null or g.reopens_at > now()
        when 'probing' then exists (select from persona.job_leases as l where l.job_id = g.probe_job_id)
      end);
comment on view persona.open_agents is 'Agents whose jobs may start now, apart from limits: active, run by runners, provider open.';
comment on column persona.open_agents.name is 'Key, as typed in persona create -a NAME.';
comment on column persona.open_agents.max_concurrent is 'Most jobs of this agent running at once on all machines together; null: no limit.';
comment on column persona.open_agents.provider is 'Whose API it calls.';
comment on column persona.open_agents.needs_probe is 'True: the gate of its provider is half open, and one job may try whether it works again.';
