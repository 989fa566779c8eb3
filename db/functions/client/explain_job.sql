-- Why is it not running? One line.
create or replace function persona.explain_job(ref text) returns text
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_job persona.jobs := persona.get_job(explain_job.ref);
  v_lease persona.job_leases;
  v_agent persona.agents;
  v_gate persona.gates;
  v_text text;
  v_name text;
  v_count bigint;
  v_question record;
  v_bucket record;
  v_entry persona.job_queue;
begin
  case v_job.status
  when 'completed' then
    return format('completed %s, attempt %s', v_job.completed_at, v_job.attempt);
  when 'failed' then
    return format('failed after %s of %s attempts: %s', v_job.attempt, v_job.max_attempts, v_job.error);
  when 'cancelled' then
    return format('cancelled %s: %s', v_job.completed_at, coalesce(v_job.cancel_reason, 'no reason given'));
  when 'held' then
    select q.kind, q.text into v_question from persona.questions as q
    where q.job_id = v_job.id and q.answered_at is null order by q.id desc limit 1;
    if v_question.kind = 'question' then
      return format('waits for an answer: %s; persona answer %s TEXT', left(v_question.text, 500), v_job.short_id);
    elsif v_question.kind = 'approval' then
      return format('needs approval; persona release %s approves it, persona kill %s does not', v_job.short_id, v_job.short_id);
    end if;
    select b.*, h.needed_usd into v_bucket
    from persona.budget_holds as h cross join lateral persona._bucket(h.bucket) as b where h.job_id = v_job.id;
    if found then
      return format('held: %s; %s%s', v_job.status_reason,
        case when v_bucket.scope = 'below' then format('persona release %s --max-cost USD gives it more', right(v_bucket.subject, 8))
          else format('persona budget set %s USD raises it', v_bucket.name) end,
        case when v_bucket.period <> 'total' and v_bucket.needed_usd <= v_bucket.limit_usd
          then format(', or it goes on %s', persona._period_end(v_bucket.period)) end);
    elsif v_job.failure_kind = 'budget' then
      return format('held: %s; persona release %s --max-cost USD lets it go on with more money',
        v_job.status_reason, v_job.short_id);
    end if;
    return format('held: %s; persona release %s lets it run', coalesce(v_job.status_reason, 'no reason given'), v_job.short_id);
  when 'blocked' then
    select count(*), string_agg(n.short_id || ' (' || n.status || ')', ', ' order by n.seq) filter (where d.n <= 5)
    into v_count, v_text
    from (
      select o.needs_job_id, row_number() over (order by o.needs_job_id) as n
      from persona.job_dependencies as o where o.job_id = v_job.id and not o.is_settled) as d
    join persona.jobs as n on n.id = d.needs_job_id;
    return format('waits for %s job(s): %s%s', v_count, v_text, case when v_count > 5 then ', ...' else '' end);
  when 'running' then
    select * into v_lease from persona.job_leases as l where l.job_id = v_job.id;
    select r.name || ' on ' || r.hostname into v_text from persona.runners as r where r.id = v_lease.runner_id;
    if v_lease.expires_at < now() then
      return format('hung: no heartbeat from %s since %s; it is recovered by the next tick of any runner',
        coalesce(v_text, 'its runner'), v_lease.heartbeat_at);
    end if;
    if v_lease.is_waiting then
      select count(*), string_agg(c.short_id || ' (' || c.status || ')', ', ' order by c.seq) into v_count, v_text
      from persona.jobs as c
      where c.parent_job_id = v_job.id and c.status in ('blocked', 'pending', 'running', 'held');
      return case when v_count = 0 then 'running; what it waited for has ended, it goes on when it has its slot again'
        else format('running; has lent its slot and waits for %s job(s) that it delegated: %s', v_count, left(v_text, 200)) end;
    end if;
    return format('running on %s, attempt %s of %s, last heartbeat %s s ago%s', coalesce(v_text, 'an outside driver'),
      v_job.attempt, v_job.max_attempts, round(extract(epoch from now() - v_lease.heartbeat_at)),
      case when v_lease.stop_requested then '; ' || v_job.status_reason else '' end);
  else
    null;  -- pending: below
  end case;

  select * into v_entry from persona.job_queue as q where q.seq = v_job.seq;
  if not found then
    return 'pending, but without an entry in the queue: an admin repairs that with select persona.rebuild_queue()';
  end if;
  select * into v_agent from persona.agents as a where a.name = v_job.agent;
  if v_job.is_external then
    return 'waits for its driver: it was created through the bridge by the program that runs it';
  elsif v_agent.name is null then
    return format('waits: agent %s is not registered', v_job.agent);
  elsif v_agent.is_external then
    return format('waits for its driver: agent %s is external, no runner claims its jobs', v_agent.name);
  elsif v_job.run_at > now() then
    return format('waits until %s%s', v_job.run_at, coalesce(': ' || v_job.status_reason, ''));
  elsif not v_agent.is_active then
    return format('waits: agent %s is disabled; persona agents enable %s', v_agent.name, v_agent.name);
  end if;
  select t.resume_at::text into v_text from persona.server_timeline as t where t.resume_at > now();
  if found then
    return format('waits until %s: after a failover or a restore no job is handed out for one lease, because what ran before may still run', v_text);
  end if;
  select g.* into v_gate from persona.gates as g
  where g.provider = v_agent.provider and g.account in ('', v_agent.account) and g.state <> 'open'
  order by g.state = 'closed' and g.reopens_at is null desc, g.reopens_at desc nulls last limit 1;
  if found then
    select j.short_id into v_text
    from persona.job_leases as l join persona.jobs as j on j.id = l.job_id where l.job_id = v_gate.probe_job_id;
    return format('waits: provider %s%s %s', v_gate.provider, coalesce(' (account ' || nullif(v_gate.account, '') || ')', ''),
      case
        when v_gate.state = 'closed' and v_gate.reopens_at is null then
          format('is closed until somebody opens it (persona gate open %s): %s', v_gate.provider,
            coalesce(v_gate.reason, 'no reason given'))
        when v_gate.state = 'closed' and v_gate.reopens_at > now() then
          format('is closed until %s: %s', v_gate.reopens_at, coalesce(v_gate.reason, 'no reason given'))
        when v_text is not null then format('is tried by job %s, because it was closed: %s', v_text, v_gate.reason)
        else 'is tried by the next job that starts; the others wait for how it ends'
      end);
  end if;
  select j.short_id into v_text
  from persona.job_leases as l join persona.jobs as j on j.id = l.job_id where l.lock_key = v_job.lock_key;
  if found then
    return format('waits: job %s is running under the same lock key "%s"', v_text, v_job.lock_key);
  end if;
  foreach v_name in array persona._limit_names(v_job.job_type, v_job.limit_key, v_job.session_id) loop
    continue when persona._limit_room(v_name) > 0;
    if v_name like 'conversation:%' then
      select j.short_id into v_text from persona.job_leases as l join persona.jobs as j on j.id = l.job_id
      where l.session_id = v_job.session_id limit 1;
      return format('waits: job %s is using the same conversation %s', v_text, v_job.session_id);
    end if;
    return format('waits: the limit %s is reached: %s may run at once', v_name,
      (select l.max_running from persona.limits as l where l.name = v_name));
  end loop;
  if v_entry.parked_for like 'budget:%' then
    return format('waits: budget %s', persona._bucket_text(
      substring(v_entry.parked_for from '^budget:(.*)\|'), substring(v_entry.parked_for from '\|([0-9.]+)$')::numeric));
  end if;
  if v_agent.max_concurrent is not null then
    select count(*) into v_count from persona.job_leases as l
    where l.agent = v_agent.name and (not l.is_waiting or l.wants_slot);
    if v_count >= v_agent.max_concurrent then
      return format('waits: agent %s runs %s of at most %s jobs', v_agent.name, v_count, v_agent.max_concurrent);
    end if;
  end if;
  select count(*) into v_count from persona.runners as r
  where r.ended_at is null and r.drain_requested_at is null and r.last_seen_at > now() - greatest(r.lease, interval '1 minute')
    and (r.agents is null or v_job.agent = any(r.agents));
  if v_count = 0 then
    return format('waits: no live runner serves agent %s; start one with persona-worker', v_agent.name);
  end if;
  select count(*) into v_count from persona.job_queue as q
  where q.agent = v_job.agent and q.waits_on is null
    and (q.priority > v_entry.priority
      or (q.priority = v_entry.priority and (q.run_at, q.seq) < (v_entry.run_at, v_entry.seq)));
  return format('ready: %s job(s) of agent %s go first', v_count, v_agent.name);
end $$;
comment on function persona.explain_job(text) is
  'Viewer API. One line that says why a job is not running, or how it runs. PJ404, PJ300.';
