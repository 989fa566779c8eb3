-- Tells watchers that jobs have changed. A commit with a notification takes a lock of the whole cluster, so there is
-- none while nobody watches. As in _wake, the look comes in a later statement than the change: a watcher that it
-- does not see has registered after our transaction got its id, and reads again until that has left its snapshots.
-- Topics: the id of a watched job; * for those who watch everything; all, for everybody, where only an isolation
-- of READ COMMITTED would have shown who is there.
create or replace function persona._announce(p_ids uuid[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform pg_notify('persona_changes', 'all');
  elsif exists (select from persona.watchers) then
    perform pg_notify('persona_changes', w.topic)
    from (
      select distinct coalesce(s.job_id::text, '*') as topic
      from persona.watchers as s
      where s.expires_at > now() and (s.job_id is null or s.job_id = any(p_ids))) as w;
  end if;
end $$;
comment on function persona._announce(uuid[]) is
  'Internal. Notifies persona_changes where somebody watches everything or one of these jobs.';
