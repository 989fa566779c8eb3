create or replace function persona.close_gate(
  provider text, account text default '', reason text default null, reopens_at timestamptz default null)
returns persona.gates
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_gate persona.gates;
begin
  if coalesce(close_gate.provider, '') = '' then
    perform persona._invalid('provider', close_gate.provider, 'the provider of an agent is needed');
  end if;
  insert into persona.gates (provider, account, state, reason, closed_at, reopens_at)
  values (close_gate.provider, coalesce(close_gate.account, ''), 'closed',
    coalesce(nullif(close_gate.reason, ''), 'closed by ' || persona._caller()), now(), close_gate.reopens_at)
  on conflict (provider, account) do update
  set state = 'closed', reason = excluded.reason, closed_at = excluded.closed_at, reopens_at = excluded.reopens_at,
      probe_job_id = null, updated_at = now()
  returning * into v_gate;
  -- Who sleeps until something is due has another time to sleep to.
  perform persona._wake('*');
  return v_gate;
end $$;
comment on function persona.close_gate(text, text, text, timestamptz) is
  'Admin API. No job of the provider starts until the time given, or until somebody opens the gate. Running ones go on. PJ422.';
