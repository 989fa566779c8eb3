create or replace function persona.open_gate(provider text, account text default '') returns persona.gates
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_gate persona.gates;
begin
  update persona.gates as g
  set state = 'open', reopens_at = null, probe_job_id = null, reason = null, updated_at = now()
  where g.provider = open_gate.provider and g.account = coalesce(open_gate.account, '')
  returning * into v_gate;
  if not found then
    perform persona._invalid('provider', open_gate.provider, coalesce('with their accounts, there are gates of: '
      || (select string_agg(g.provider || coalesce('/' || nullif(g.account, ''), ''), ', ' order by g.provider, g.account)
          from persona.gates as g), 'no gate has ever been closed'));
  end if;
  perform persona._wake('*');
  return v_gate;
end $$;
comment on function persona.open_gate(text, text) is 'Admin API. Lets jobs of a provider start again, all at once. PJ422.';
