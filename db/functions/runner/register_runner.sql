-- A runner introduces itself. Its name is stable; the id is new each time, so that nothing of an earlier
-- registration can be mistaken for it.
-- takeover says that it has proof that its predecessor of the same name is dead and was on this machine; only then
-- may it have the predecessor's leases back at once (recover_predecessor), else they run out by themselves.
-- The proof is about one process, which predecessor_pid and predecessor_boot_id name: a runner of the same name that
-- was started from elsewhere is not taken over with it.
-- Without proof, a predecessor that gave a sign of life within half its lease is taken to be alive: PJ409. One that
-- lives is never older than a heartbeat (a third of the lease at most) and what heartbeats leaves out (a tenth).
create or replace function persona.register_runner(
  name text, hostname text, pid integer, boot_id text default null, capacity integer default 1,
  agents text[] default null, protocol integer default 1, machine_id text default null,
  pid_namespace text default null, version text default null, takeover boolean default false,
  pid_started text default null, lease interval default interval '300 seconds',
  predecessor_pid integer default null, predecessor_boot_id text default null
) returns table (id uuid, lease_seconds double precision, leftover jsonb, may_recover boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_id uuid := persona._new_id();
  v_min integer;
  v_max integer;
  v_old persona.runners;
  v_is_proven boolean := coalesce(register_runner.takeover, false);
  v_unknown text;
  v_served text[];
begin
  if coalesce(btrim(register_runner.name), '') = '' or length(register_runner.name) > 200 then
    perform persona._invalid('name', register_runner.name, 'a name of 1 to 200 characters is needed');
  end if;
  if register_runner.name like 'bridge:%' then
    perform persona._invalid('name', register_runner.name, 'names that begin with bridge: belong to programs that drive jobs from outside');
  end if;
  if coalesce(register_runner.capacity, 0) < 1 then
    perform persona._invalid('capacity', register_runner.capacity::text, 'at least 1 is needed');
  end if;
  if register_runner.lease is null or register_runner.lease not between interval '1 second' and interval '1 day' then
    perform persona._invalid('lease', register_runner.lease::text, '1 second to 1 day is allowed');
  end if;
  -- An install that raises the minimum holds this lock: read only what it has left behind.
  lock table persona.runners in row exclusive mode;
  v_min := persona._setting('min_protocol')::integer;
  v_max := persona._setting('max_protocol')::integer;
  if register_runner.protocol is null or register_runner.protocol not between v_min and v_max then
    perform persona._raise('PJ426',
      format('runner %s speaks protocol %s, this schema serves %s to %s', register_runner.name,
        coalesce(register_runner.protocol::text, 'unknown'), v_min, v_max),
      jsonb_build_object('protocol', register_runner.protocol, 'min_protocol', v_min, 'max_protocol', v_max),
      case when register_runner.protocol > v_max then 'Upgrade the schema: persona db migrate.'
           else 'Upgrade the runner.' end);
  end if;
  select u.agent into v_unknown from unnest(register_runner.agents) as u (agent)
  where not exists (select from persona.agents as a where a.name = u.agent) limit 1;
  if found then
    perform persona._unknown_agent('agents', v_unknown);
  end if;

  select r.agents into v_served from persona.runner_restrictions as r
  where r.role_name in (session_user, persona._caller()::name)
  order by r.role_name = session_user desc limit 1;
  if found then
    if not register_runner.agents <@ v_served then
      perform persona._raise('PJ403', format('a runner of role %s may not serve %s', persona._caller(), (
          select string_agg(u.agent, ', ' order by u.agent) from unnest(register_runner.agents) as u (agent)
          where u.agent <> all(v_served))),
        jsonb_build_object('role', persona._caller(), 'allowed', to_jsonb(v_served)),
        format('It may serve %s; an admin changes that with restrict_runner.', array_to_string(v_served, ', ')));
    end if;
    register_runner.agents := coalesce(register_runner.agents, v_served);
  end if;

  perform pg_advisory_xact_lock(hashtext('persona.runner'), hashtext(register_runner.name));
  if v_served is not null and exists (
    select from persona.runners as r
    where r.name = register_runner.name and r.login_role is distinct from persona._caller()
      and (r.ended_at is null or exists (select from persona.job_leases as l where l.runner_id = r.id)))
  then
    perform persona._raise('PJ403', format('the name %s is that of a runner of another role', register_runner.name),
      jsonb_build_object('role', persona._caller(), 'name', register_runner.name), 'Choose another name.');
  end if;
  select * into v_old from persona.runners as r
  where r.name = register_runner.name and r.ended_at is null for no key update;
  if found then
    if register_runner.predecessor_pid is not null then
      v_is_proven := v_is_proven and v_old.pid = register_runner.predecessor_pid
        and v_old.boot_id is not distinct from register_runner.predecessor_boot_id;
    end if;
    if not v_is_proven and v_old.last_seen_at > now() - v_old.lease / 2 then
      perform persona._raise('PJ409',
        format('a runner named %s is alive on %s (pid %s, seen %s s ago)', v_old.name, v_old.hostname, v_old.pid,
          round(extract(epoch from now() - v_old.last_seen_at))),
        jsonb_build_object('runner_id', v_old.id, 'hostname', v_old.hostname, 'pid', v_old.pid),
        'Give this one another name with --name, or stop that one first.');
    end if;
    update persona.runners as r set ended_at = now(), ended_reason = 'replaced' where r.id = v_old.id;
    delete from persona.idle_runners as i where i.runner_id = v_old.id;
  end if;

  insert into persona.runners (
    id, name, hostname, pid, pid_started, boot_id, machine_id, pid_namespace, version, protocol, capacity, agents,
    lease, may_take_over, predecessor_id, login_role)
  values (
    v_id, register_runner.name, register_runner.hostname, register_runner.pid, register_runner.pid_started,
    register_runner.boot_id, register_runner.machine_id, register_runner.pid_namespace, register_runner.version,
    register_runner.protocol, register_runner.capacity, register_runner.agents, register_runner.lease,
    v_is_proven, case when v_is_proven then v_old.id end, persona._caller());

  return query
    select v_id, extract(epoch from register_runner.lease)::double precision, coalesce((
      select jsonb_agg(jsonb_build_object(
        'job_id', l.job_id, 'lease', l.lease, 'pid', l.pid, 'pid_started', l.pid_started, 'token', l.token,
        'boot_id', l.boot_id, 'machine_id', l.machine_id, 'pid_namespace', l.pid_namespace,
        'expires_in', extract(epoch from l.expires_at - now())) order by l.job_id)
      from persona.runners as r
      join persona.job_leases as l on l.runner_id = r.id
      where r.name = register_runner.name and r.ended_at is not null), '[]'), v_is_proven;
end $$;
comment on function persona.register_runner(
  text, text, integer, text, integer, text[], integer, text, text, text, boolean, text, interval, integer, text) is
  'Runner API. Registers a runner and returns its id, the length of its leases and what a predecessor of the same name left running; may_recover says whether recover_predecessor may have it at once. PJ409 where such a predecessor is alive, PJ426 where the protocol does not fit, PJ422.';
