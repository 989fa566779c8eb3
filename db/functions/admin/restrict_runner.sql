create or replace function persona.restrict_runner(role_name text, agents text[]) returns setof persona.runner_restrictions
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_unknown text;
begin
  if to_regrole(quote_ident(coalesce(restrict_runner.role_name, ''))) is null then
    perform persona._invalid('role_name', restrict_runner.role_name, 'the name of an existing role is needed; create role makes one');
  end if;
  select u.agent into v_unknown from unnest(restrict_runner.agents) as u (agent)
  where not exists (select from persona.agents as a where a.name = u.agent) limit 1;
  if found then
    perform persona._unknown_agent('agents', v_unknown);
  end if;
  delete from persona.runner_restrictions as r where r.role_name = restrict_runner.role_name;
  if coalesce(cardinality(restrict_runner.agents), 0) = 0 then
    return;
  end if;
  -- Runners that are there claim no more of what they may not serve; one that served all, or nothing of what is left,
  -- ends its jobs and registers anew.
  update persona.runners as r
  set agents = array(select a.name from unnest(r.agents) as a (name) where a.name = any(restrict_runner.agents))
  where r.login_role = restrict_runner.role_name and r.ended_at is null and r.agents && restrict_runner.agents
    and not r.agents <@ restrict_runner.agents;
  update persona.idle_runners as i set agents = r.agents
  from persona.runners as r
  where r.id = i.runner_id and r.login_role = restrict_runner.role_name and i.agents is distinct from r.agents;
  perform persona.drain_runner(r.id::text) from persona.runners as r
  where r.login_role = restrict_runner.role_name and r.ended_at is null
    and not coalesce(r.agents && restrict_runner.agents, false);
  return query
    insert into persona.runner_restrictions (role_name, agents, assigned_by)
    values (restrict_runner.role_name, restrict_runner.agents, persona._caller())
    returning *;
end $$;
comment on function persona.restrict_runner(text, text[]) is
  'Admin API. Runners that log in as this role serve these agents only, in place of those it named before; none: all. A runner of another login is out of their reach. PJ422.';
