-- Hands out the next jobs, oldest of the highest priority first, each under a new lease.
-- One transaction checks everything: the runner's agents, active agents, provider gates, limits over all machines,
-- conversations, lock keys, run_at, budgets; limits but those of agents are kept by _admit, budgets by _reserve. A limit
-- of an agent is kept exactly because every claim of a limited agent locks the agent's row before it counts, in an
-- earlier statement than the count; a claim that finds the row locked leaves that agent out.
-- What a statement costs here is mostly its start, so one look says what there is to think of at all: most claims meet
-- no delayed job that is due, no agent with a limit, no shut gate, and pass over those parts.
-- The planner switches keep a plan that was made while the tables were small from reading them whole later; what
-- such a plan costs on paper would start the JIT compiler. Generic plans, because planning costs more than running.
-- A runner names its connection, so that a claim that was under way when it lost one is refused when it comes late.
-- A runner that gets less than it asked for is marked idle in the same transaction: see _wake. Not one that stays awake:
-- it claims again within moments, whatever it got, and nobody needs to notify it.
create or replace function persona.claim_jobs(
  runner_id uuid, max_jobs integer default 1, connection integer default null, stays_awake boolean default false)
returns setof persona.claimed_job
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_runner record;
  v_limited text[];
  v_probers text[];
  v_agents text[];
  v_limits integer[];
  v_ids uuid[];
  v_claimed uuid[];
  v_entries tid[];
  v_rows tid[];
  v_amounts numeric[];
  v_parked boolean;
  v_found integer;
  v_left integer := claim_jobs.max_jobs;
  v_rounds integer := 0;
  v_room bigint;
  v_is_paused boolean := false;
  v_is_watched boolean;
  v_is_marked boolean;
  v_is_locked boolean;
begin
  if clock_timestamp() - now() > interval '1 second' then
    perform persona._refuse_late('claim_jobs');
  end if;
  if claim_jobs.max_jobs is null or claim_jobs.max_jobs not between 1 and 10000 then
    perform persona._invalid('max_jobs', claim_jobs.max_jobs::text, '1 to 10000 is allowed');
  end if;
  -- As _check_connection has it: the number of the connection is read after its lock, in a later statement.
  v_is_locked := claim_jobs.connection is null or persona._lock_connection(claim_jobs.runner_id);
  select r.id, r.connection, r.agents, r.hostname, r.lease, r.boot_id, r.machine_id, r.pid_namespace, r.drain_requested_at,
    r.login_role is distinct from persona._caller() as is_of_another,
    exists (select from persona.job_queue as q where q.waits_on = 'time' and q.run_at <= now()) as has_due,
    exists (select from persona.gates as g where g.state <> 'open') as has_shut_gates,
    exists (select from persona.limits as l where l.name = 'total') as has_total,
    exists (select from persona.job_queue as q where q.waits_on = 'limit') as has_parked,
    array(
      select a.name from persona.agents as a
      where a.is_active and not a.is_external and a.max_concurrent is not null
        and (r.agents is null or a.name = any(r.agents))
        -- Not exists: that is joined, and may read the whole queue.
        and (select true from persona.job_queue as q where q.agent = a.name and q.waits_on is null limit 1)) as limited,
    array(
      select a.name from persona.agents as a
      where a.is_active and not a.is_external and a.max_concurrent is null
        and (r.agents is null or a.name = any(r.agents))) as unlimited,
    (select t.resume_at is not null or (t.xmin <> t.row_xid) is true
       or t.timeline is distinct from substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
     from persona.server_timeline as t) is distinct from false as is_new_server
  into v_runner
  from persona.runners as r where r.id = claim_jobs.runner_id and r.ended_at is null;
  if not found then
    perform persona._runner(claim_jobs.runner_id);
  elsif v_runner.is_of_another then
    perform persona._own_runner(claim_jobs.runner_id);
  end if;
  if claim_jobs.connection is not null
     and (not v_is_locked or v_runner.connection is distinct from claim_jobs.connection) then
    perform persona._check_connection(claim_jobs.runner_id, claim_jobs.connection);
  end if;
  if v_runner.drain_requested_at is not null then
    return;
  end if;
  if v_runner.is_new_server then
    v_is_paused := persona._resume_at() is not null;
  end if;

  if v_runner.has_due then
    update persona.job_queue as q set waits_on = null
    where q.seq = any(array(
      select d.seq from persona.job_queue as d
      where d.waits_on = 'time' and d.run_at <= now()
      order by d.run_at limit 1000 for update skip locked));
  end if;

  if cardinality(v_runner.limited) > 0 then
    v_limited := array(
      select a.name from persona.agents as a
      where a.name = any(v_runner.limited)
      order by a.name for no key update skip locked);
  end if;

  if not v_is_paused and v_runner.has_shut_gates then
    v_probers := persona._lock_probes(v_runner.agents);
  end if;

  -- Not exact yet, that is _admit: this only spares it work.
  if v_runner.has_total then
    v_room := persona._limit_room('total');
  end if;

  -- Each round that parked entries of busy lock keys or full limits is followed by another one, within bounds.
  while v_left > 0 and v_rounds < 20 and not v_is_paused loop
    v_rounds := v_rounds + 1;
    if v_runner.has_shut_gates or cardinality(v_limited) > 0 then
      select array_agg(a.name), array_agg(a.free) into v_agents, v_limits
      from (
        select o.name, least(v_left, case when o.name = any(v_probers) then 1 end, case
            when o.max_concurrent is not null then o.max_concurrent - (
              select count(*) from persona.job_leases as l
              where l.agent = o.name and (not l.is_waiting or l.wants_slot))
          end)::integer as free
        from persona.open_agents as o
        where (v_runner.agents is null or o.name = any(v_runner.agents))
          and (o.max_concurrent is null or o.name = any(v_limited))
          -- Short of a list of probers every gate was open a moment ago.
          and (v_probers is null or not o.needs_probe or o.name = any(v_probers))
      ) as a
      where a.free > 0;
    else
      v_agents := v_runner.unlimited;
      v_limits := array_fill(v_left, array[cardinality(v_agents)]);
    end if;
    exit when v_agents is null or v_room <= 0;

    if v_runner.has_parked or v_rounds > 1 then
      perform persona._unpark_limited(v_agents);
    end if;
    select p.ids, p.entries, p.rows, p.parked, p.amounts into v_ids, v_entries, v_rows, v_parked, v_amounts
    from persona._pick_jobs(v_agents, v_limits, least(v_left, v_room)::integer) as p;
    if v_ids is not null then
      return query
        with taken as (
          delete from persona.job_queue as q where q.ctid = any(v_entries)
        ), claimed as (
          update persona.jobs as j
          set status = 'running', status_reason = null, attempt = j.attempt + 1,
              lease = greatest(j.lease + 1, (date_part('epoch', clock_timestamp()) * 1000000)::bigint),
              runner_id = v_runner.id, hostname = v_runner.hostname, pid = null, started_at = now(),
              exit_code = null, error = null, failure_kind = null, progress = null, progress_text = null,
              cancel_requested_at = null, cancel_reason = null, cancel_force = false, stop_as = null,
              updated_at = greatest(now(), j.updated_at + interval '1 microsecond')
          where j.ctid = any(v_rows)
          returning j.priority, j.run_at, j.seq, j.id, j.short_id, j.job_type, j.agent, j.status, j.payload, j.attempt,
            j.max_attempts, j.lease, j.timeout, j.idle_timeout, j.session_id, j.parent_job_id, j.depth,
            j.business, j.source_file, j.lock_key, j.limit_key, j.max_cost_usd - coalesce(j.cost_usd, 0) as cost_left
        ), leased as (
          insert into persona.job_leases (
            job_id, lease, runner_id, agent, lock_key, lease_length, claimed_at, heartbeat_at, expires_at,
            boot_id, machine_id, pid_namespace, claimed_xid, job_type, limit_key, session_id)
          select c.id, c.lease, v_runner.id, c.agent, c.lock_key, v_runner.lease, now(), now(),
            now() + v_runner.lease, v_runner.boot_id, v_runner.machine_id, v_runner.pid_namespace,
            -- Its default, reckoned once instead of for each row.
            (select pg_current_xact_id()::text::bigint), c.job_type, c.limit_key, c.session_id
          from claimed as c
        )
        select c.id, c.short_id, c.job_type, c.agent, c.status, c.payload, c.priority, c.attempt, c.max_attempts,
          c.lease, date_part('epoch', v_runner.lease),
          a.argv, a.stdin_template, t.prompt_template, t.script_argv, t.prompt_file, a.env, a.workdir, a.provider,
          a.model, a.launcher, a.output_format,
          date_part('epoch', coalesce(c.timeout, a.timeout)),
          date_part('epoch', coalesce(c.idle_timeout, a.idle_timeout)),
          date_part('epoch', a.kill_grace), a.output_limit, a.keeps_conversation,
          c.session_id, c.parent_job_id, c.depth, c.business, c.source_file,
          persona._resource_limits(a), least(a.max_cost_usd, c.cost_left)::double precision
        -- Sorted while it is narrow, by columns that come first; the order below only says so.
        from (select * from claimed as c order by c.priority desc, c.run_at, c.seq) as c
        join persona.agents as a on a.name = c.agent
        left join persona.job_types as t on t.name = c.job_type
        order by c.priority desc, c.run_at, c.seq;
      get diagnostics v_found = row_count;
      if v_found <> cardinality(v_ids) then
        -- Their entries are gone: a job that was not found would wait for ever.
        perform persona._raise('40001', format('%s of %s locked jobs were claimed', v_found, cardinality(v_ids)), null,
          'Try again.');
      end if;
      if v_amounts is not null then
        perform persona._keep_reservations(v_ids, v_amounts);
      end if;
      if cardinality(v_probers) > 0 then
        update persona.gates as g
        set state = 'probing', probe_job_id = j.id, updated_at = now()
        from persona.jobs as j
        join persona.agents as a on a.name = j.agent
        where j.id = any(v_ids) and a.name = any(v_probers) and g.state <> 'open'
          and g.provider = a.provider and g.account in ('', a.account);
      end if;
      v_left := v_left - v_found;
      v_room := v_room - v_found;
      v_claimed := v_claimed || v_ids;
    end if;
    exit when not v_parked;
  end loop;

  -- A later statement than the claim: see _announce.
  select current_setting('transaction_isolation') <> 'read committed' or exists (select from persona.watchers),
    exists (select from persona.idle_runners as i where i.runner_id = v_runner.id)
  into v_is_watched, v_is_marked;
  if v_is_watched and v_claimed is not null then
    perform persona._announce(v_claimed);
  end if;
  if v_left <= 0 or claim_jobs.stays_awake then
    if v_is_marked then
      delete from persona.idle_runners as i where i.runner_id = v_runner.id;
    end if;
  elsif not v_is_marked then
    insert into persona.idle_runners (runner_id, agents) values (v_runner.id, v_runner.agents)
    on conflict do nothing;
  end if;
end $$;
comment on function persona.claim_jobs(uuid, integer, integer, boolean) is
  'Runner API. Claims up to max_jobs jobs, oldest of the highest priority first, each under a new lease, and returns what it takes to run them. PJ410 where the runner is not registered any more, PJ409 where the connection is not its last one (null: not checked). A runner that stays awake is not marked idle: it has to claim again by itself.';
