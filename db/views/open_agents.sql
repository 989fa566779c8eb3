-- A view and not a function, so that the statements of a claim keep one plan with it.
create or replace view persona.open_agents as
select a.name, a.max_concurrent, a.provider
from persona.agents as a
where a.is_active and not a.is_external
  and not exists (
    select from persona.gates as g
    where g.provider = a.provider and g.state <> 'open' and (g.reopens_at is null or g.reopens_at > now()));
comment on view persona.open_agents is 'Agents whose jobs may start now, apart from limits: active, run by runners, provider open.';
comment on column persona.open_agents.name is 'Key, as typed in persona create -a NAME.';
comment on column persona.open_agents.max_concurrent is 'Most jobs of this agent running at once on all machines together; null: no limit.';
comment on column persona.open_agents.provider is 'Whose API it calls.';
