-- Until when no job may be handed out because the server is another one than it was: a promoted standby, or what was
-- restored from a backup (then another transaction has written the row than it says: see _mark_server), may have
-- lost the commit of a claim, and that job would be started a second time beside an execution that lives until its
-- lease ends. The longest lease of any runner is waited for. A planned switchover looks the same and costs the same
-- pause. Asking needs no privilege, and costs a few microseconds as long as nothing has changed.
create or replace function persona._resume_at() returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_timeline text := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
  v_known persona.server_timeline;
  v_is_restored boolean;
begin
  select t.xmin <> t.row_xid into v_is_restored from persona.server_timeline as t;
  select * into v_known from persona.server_timeline as t;
  if v_known.timeline is distinct from v_timeline or v_is_restored then
    -- Of several who notice it at once, one writes, and the others find it written.
    update persona.server_timeline as t
    set timeline = v_timeline, changed_at = now(), row_xid = null, resume_at = case
        when persona._setting('failover_pause')::boolean
        then now() + (select coalesce(max(r.lease), interval '300 seconds') from persona.runners as r) end
    where t.timeline <> v_timeline or t.xmin <> t.row_xid;
    select * into v_known from persona.server_timeline as t;
  end if;
  return case when v_known.resume_at > now() then v_known.resume_at end;
end $$;
comment on function persona._resume_at() is
  'Internal. When jobs are handed out again after a change of the server''s timeline; null: now.';
