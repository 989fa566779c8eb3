-- The rules for a new job that no constraint of the table can say. Returns the agent that will run it.
create or replace function persona._check_job(
  p_job_type text, p_payload jsonb, p_agent text, p_timeout interval, p_idle_timeout interval,
  p_max_attempts integer, p_dedupe_key text, p_lock_key text
) returns persona.agents
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_found record;
  v_agent persona.agents;
  v_name text;
begin
  if coalesce(p_job_type, '') = '' or length(p_job_type) > 100 then
    perform persona._invalid('job_type', p_job_type, 'a name of 1 to 100 characters is needed');
  end if;
  if p_payload is null or jsonb_typeof(p_payload) <> 'object' then
    perform persona._invalid('payload', p_payload::text, 'a JSON object is needed');
  end if;
  perform persona._check_payload(p_payload);
  if p_timeout <= interval '0' then
    perform persona._invalid('timeout', p_timeout::text, 'more than 0 is needed');
  end if;
  if p_idle_timeout <= interval '0' then
    perform persona._invalid('idle_timeout', p_idle_timeout::text, 'more than 0 is needed');
  end if;
  if p_max_attempts not between 1 and 1000 then
    perform persona._invalid('max_attempts', p_max_attempts::text, '1 to 1000 is allowed');
  end if;
  if length(p_dedupe_key) not between 1 and 500 then
    perform persona._invalid('dedupe_key', p_dedupe_key, '1 to 500 characters are allowed');
  end if;
  if length(p_lock_key) not between 1 and 500 then
    perform persona._invalid('lock_key', p_lock_key, '1 to 500 characters are allowed');
  end if;

  -- Type and agent in one look: this is on the path of every create.
  select t.default_agent, t.requires_one_of, t.requires_approval, a as agent into v_found
  from (values (1)) as one
  left join persona.job_types as t on t.name = p_job_type
  left join persona.agents as a
    on a.name = coalesce(nullif(p_agent, ''), t.default_agent, persona._setting('default_agent'));
  if cardinality(v_found.requires_one_of) > 0 and not exists (
    select from unnest(v_found.requires_one_of) as k (key) where btrim(p_payload ->> k.key) <> '')
  then
    perform persona._invalid('payload', p_payload::text, format('a job of type %s needs text in %s',
      p_job_type, array_to_string(v_found.requires_one_of, ' or ')));
  end if;

  v_agent := v_found.agent;
  if v_agent.name is null then
    v_name := coalesce(nullif(p_agent, ''), v_found.default_agent, persona._setting('default_agent'));
    perform persona._invalid('agent', v_name, format(
      case when v_name is null then 'job type %s has no default agent, name one of: %s'
           else 'for job type %s name one of: %s' end,
      p_job_type, (select string_agg(a.name, ', ' order by a.name) from persona.agents as a where a.is_active)));
  end if;
  if v_agent.admin_only and not persona._is_admin() then
    perform persona._raise('PJ403',
      format('only an admin may create jobs for agent %s: it runs what the payload says', v_agent.name),
      jsonb_build_object('agent', v_agent.name, 'role', persona._caller()),
      'Ask an admin, or choose a registered agent.');
  end if;
  if v_agent.name = 'command' and not coalesce(
    jsonb_typeof(p_payload -> 'argv') = 'array' and jsonb_array_length(p_payload -> 'argv') > 0, false)
  then
    perform persona._invalid('payload', p_payload::text, 'agent command needs argv, an array of the program and its arguments');
  end if;
  v_agent.requires_approval := v_agent.requires_approval or coalesce(v_found.requires_approval, false);
  return v_agent;
end $$;
comment on function persona._check_job(text, jsonb, text, interval, interval, integer, text, text) is
  'Internal. Checks a new job and returns its agent; requires_approval is also that of the type. PJ422, PJ403.';
