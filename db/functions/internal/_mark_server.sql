-- The row of server_timeline says which transaction wrote it, and so does PostgreSQL, in xmin. A restore writes it anew.
-- In a subtransaction both differ, so that one leaves it as it was.
create or replace function persona._mark_server() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if exists (select from persona.server_timeline as t where t.row_xid is null) then
    update persona.server_timeline as t set row_xid = pg_current_xact_id()::xid where t.row_xid is null;
    update persona.server_timeline as t set row_xid = null where t.xmin <> t.row_xid;
  end if;
end $$;
comment on function persona._mark_server() is 'Internal. Makes a restored backup recognisable: see _resume_at.';
