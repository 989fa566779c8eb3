create or replace function persona.update_agent(name text, changes jsonb) returns persona.agents
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_old persona.agents;
  v_new persona.agents;
  v_bad text;
begin
  select * into v_old from persona.agents as a where a.name = update_agent.name for update;
  if not found then
    perform persona._unknown_agent('name', update_agent.name);
  end if;
  select k.key into v_bad from jsonb_object_keys(update_agent.changes) as k (key)
  where k.key in ('name', 'created_at', 'updated_at') or not to_jsonb(v_old) ? k.key limit 1;
  if found then
    perform persona._invalid('changes', v_bad, 'the columns of agents are allowed, but name and times');
  end if;
  begin
    v_new := jsonb_populate_record(v_old, update_agent.changes);
    if v_new.argv is distinct from v_old.argv and not update_agent.changes ? 'resume_argv' then
      -- It would resume with the options of before.
      v_new.resume_argv := null;
    end if;
    perform persona._check_argv('argv', v_new.argv, v_new.admin_only);
    perform persona._check_argv('resume_argv', v_new.resume_argv, v_new.admin_only);
    perform persona._check_launcher(v_new.launcher, v_new.argv || v_new.resume_argv, v_new.admin_only);
    update persona.agents as a
    set description = coalesce(v_new.description, ''), role = v_new.role, provider = v_new.provider,
        account = coalesce(v_new.account, ''),
        model = v_new.model, argv = v_new.argv, stdin_template = v_new.stdin_template,
        env = coalesce(v_new.env, '{}'), workdir = v_new.workdir,
        output_format = coalesce(v_new.output_format, 'plain'), timeout = v_new.timeout,
        idle_timeout = v_new.idle_timeout, kill_grace = v_new.kill_grace, output_limit = v_new.output_limit,
        memory_limit = v_new.memory_limit, cpu_limit = v_new.cpu_limit, process_limit = v_new.process_limit,
        open_files_limit = v_new.open_files_limit, file_size_limit = v_new.file_size_limit, nice = v_new.nice,
        max_cost_usd = v_new.max_cost_usd,
        max_attempts = v_new.max_attempts, max_concurrent = v_new.max_concurrent,
        is_active = coalesce(v_new.is_active, true), is_external = coalesce(v_new.is_external, false),
        admin_only = coalesce(v_new.admin_only, false), costs_money = coalesce(v_new.costs_money, false),
        keeps_conversation = coalesce(v_new.keeps_conversation, false),
        may_delegate_to = coalesce(v_new.may_delegate_to, '{}'), launcher = coalesce(v_new.launcher, '{}'),
        requires_approval = coalesce(v_new.requires_approval, false), resume_argv = v_new.resume_argv,
        updated_at = greatest(now(), a.updated_at + interval '1 microsecond')
    where a.name = update_agent.name
    returning * into v_new;
  exception when data_exception or check_violation or not_null_violation then
    perform persona._invalid('changes', update_agent.changes::text, sqlerrm);
  end;
  if v_new.is_external <> v_old.is_external then
    update persona.job_queue as q set waits_on = persona._waits_on(q.agent, q.run_at)
    where q.agent = update_agent.name and q.waits_on is distinct from 'lock'
      and not exists (select from persona.jobs as j where j.id = q.job_id and j.is_external);
  end if;
  -- It may have been enabled, or its limit raised.
  perform persona._wake(update_agent.name);
  return v_new;
end $$;
comment on function persona.update_agent(text, jsonb) is
  'Admin API. Changes columns of an agent, given as a JSON object; null clears one. Another argv clears resume_argv too, unless both are given. PJ422.';
