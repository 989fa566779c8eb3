-- Wakes idle runners that serve the agent. A notification takes a lock of the whole cluster at commit, so none
-- is sent where nobody is idle. The look must come in a later statement than the write that made work claimable:
-- its snapshot then sees every idle mark committed before our transaction could be missed by that runner's last
-- claim. The mark of a runner that died counts until its lease would have ended: it would make every create pay.
-- Only READ COMMITTED takes a fresh snapshot a statement; in any other isolation we always notify.
create or replace function persona._wake(p_agent text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  perform pg_notify('persona_wake', p_agent)
  where current_setting('transaction_isolation') <> 'read committed'
    or exists (
      select from persona.idle_runners as i
      join persona.runners as r on r.id = i.runner_id
      where (i.agents is null or p_agent = '*' or p_agent = any(i.agents))
        and r.last_seen_at > now() - r.lease);
end $$;
comment on function persona._wake(text) is 'Internal. Notifies persona_wake with the agent, or * for all, where a fitting runner is idle.';
