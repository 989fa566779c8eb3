create or replace function persona.set_failure_policy(
  kind text, action text, gate text default 'open', wait interval default null)
returns persona.failure_policies
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_policy persona.failure_policies;
begin
  if coalesce(set_failure_policy.kind, '') = '' then
    perform persona._invalid('kind', set_failure_policy.kind, 'a kind of failure is needed');
  elsif set_failure_policy.action is null or set_failure_policy.action not in ('retry', 'wait', 'hold', 'fail') then
    perform persona._invalid('action', set_failure_policy.action, 'one of retry, wait, hold, fail');
  elsif set_failure_policy.gate is null or set_failure_policy.gate not in ('open', 'until_reset', 'until_opened') then
    perform persona._invalid('gate', set_failure_policy.gate, 'one of open, until_reset, until_opened');
  elsif set_failure_policy.wait <= interval '0' then
    perform persona._invalid('wait', set_failure_policy.wait::text, 'more than 0 is needed');
  end if;
  insert into persona.failure_policies (kind, action, gate, wait)
  values (set_failure_policy.kind, set_failure_policy.action, set_failure_policy.gate, set_failure_policy.wait)
  on conflict (kind) do update set action = excluded.action, gate = excluded.gate, wait = excluded.wait
  returning * into v_policy;
  return v_policy;
end $$;
comment on function persona.set_failure_policy(text, text, text, interval) is
  'Admin API. What a kind of failure leads to; see failure_policies. PJ422.';
