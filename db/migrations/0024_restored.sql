-- 0024, expand: a restored backup is known by itself, also where the server's timeline is the same.
-- Online: a nullable column; what predates it neither writes nor asks it.
alter table persona.server_timeline add column row_xid xid;
comment on column persona.server_timeline.row_xid is
  'Transaction that wrote this row, as the row itself says; another one has written it where it was restored. Null: not known yet, the tick sets it.';
