-- Drops what a rollback has left of a function that is here again with other arguments: a call would fit both.
-- Whatever an install makes carries its transaction; what bears the same name and does not is from before.
do $$
declare
  v_old regprocedure;
begin
  for v_old in
    select o.oid::regprocedure from pg_proc as o
    where o.pronamespace = 'persona'::regnamespace and o.xmin <> pg_current_xact_id()::xid and exists (
      select from pg_proc as n
      where n.pronamespace = o.pronamespace and n.proname = o.proname and n.xmin = pg_current_xact_id()::xid)
  loop
    execute format('drop function %s', v_old);
  end loop;
end $$;
