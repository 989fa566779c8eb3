-- What ended executions say about their providers. A refusal closes the gate for all runners; one alert a closing,
-- however many jobs are refused meanwhile. The probe of a half-open gate opens it when it ended by itself without a
-- refusal, closes it again when it was refused, and is followed by another one when it ended in any other way.
-- Gates are locked after jobs, in one order; a claim only ever tries to.
create or replace function persona._settle_gates(p_items jsonb, p_ids uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_end record;
  v_gate persona.gates;
  v_until timestamptz;
  v_is_open boolean := false;
begin
  for v_end in
    select t.job_id, a.provider, a.account, t.outcome, t.failure_kind, t.error,
      coalesce(p.gate, 'open') as gate, p.wait,
      coalesce(now() + make_interval(secs => i.retry_in), i.retry_at) as retry_at
    from jsonb_to_recordset(p_items) as i (
      job_id uuid, lease bigint, retry_at timestamptz, retry_in double precision)
    join persona.job_attempts as t on t.job_id = i.job_id and t.lease = i.lease and t.ended_at = now()
    join persona.jobs as j on j.id = i.job_id
    join persona.agents as a on a.name = j.agent and a.provider is not null
    left join persona.failure_policies as p on p.kind = t.failure_kind and t.outcome <> 'completed'
    where i.job_id = any(p_ids)
      and (p.gate <> 'open' or exists (select from persona.gates as g where g.probe_job_id = i.job_id))
    order by a.provider, a.account, i.job_id
  loop
    if v_end.gate <> 'open' then
      insert into persona.gates (provider, account) values (v_end.provider, v_end.account) on conflict do nothing;
    end if;
    for v_gate in
      select * from persona.gates as g
      where g.provider = v_end.provider and (
        (v_end.gate <> 'open' and g.account = v_end.account) or g.probe_job_id = v_end.job_id)
      order by g.account for no key update
    loop
      if v_end.gate <> 'open' and v_gate.account = v_end.account then
        -- Somebody else's probe knows better than an execution from before.
        continue when v_gate.state = 'probing' and v_gate.probe_job_id <> v_end.job_id
          and v_end.gate = 'until_reset';
        v_until := case
          when v_end.gate = 'until_opened' or (v_gate.state = 'closed' and v_gate.reopens_at is null) then null
          else greatest(
            coalesce(v_end.retry_at, now() + coalesce(v_end.wait,
              make_interval(secs => persona._setting('rate_limit_wait_seconds')::double precision))),
            now() + interval '1 s',
            case when v_gate.state = 'closed' then v_gate.reopens_at end)
        end;
        update persona.gates as g
        set state = 'closed', reopens_at = v_until, probe_job_id = null, updated_at = now(),
            reason = left(format('%s: %s', replace(v_end.failure_kind, '_', ' '), v_end.error), 500),
            closed_at = case when g.state = 'open' then now() else g.closed_at end
        where g.provider = v_gate.provider and g.account = v_gate.account;
        if v_gate.state = 'open' or (v_until is null and v_gate.reopens_at is not null) then
          perform persona._raise_alert('gate_closed', v_end.job_id, format('provider %s%s is closed until %s: %s',
            v_gate.provider, coalesce(' (account ' || nullif(v_gate.account, '') || ')', ''),
            coalesce(v_until::text, 'somebody opens it (persona gate open ' || v_gate.provider || ')'),
            left(v_end.error, 500)), jsonb_build_object('provider', v_gate.provider, 'account', v_gate.account));
        end if;
      elsif v_gate.probe_job_id = v_end.job_id then
        v_is_open := v_end.outcome in ('completed', 'failed', 'timeout', 'idle_timeout')
          and v_end.failure_kind is distinct from 'not_found';
        update persona.gates as g
        set state = case when v_is_open then 'open' else 'closed' end, reopens_at = case when not v_is_open then now() end,
            probe_job_id = null, reason = case when not v_is_open then g.reason end, updated_at = now()
        where g.provider = v_gate.provider and g.account = v_gate.account;
      end if;
    end loop;
  end loop;
  perform persona._wake('*');
end $$;
comment on function persona._settle_gates(jsonb, uuid[]) is 'Internal. Closes and opens gates after executions have ended.';
