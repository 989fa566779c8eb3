-- now() stands still in a transaction: a lease granted late in a long one would start in the past.
create or replace function persona._refuse_late(p_function text) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if clock_timestamp() - now() > interval '1 second' then
    perform persona._raise(
      'PJ422',
      format('%s was called %s s after its transaction began', p_function,
        round(extract(epoch from clock_timestamp() - now()), 1)),
      jsonb_build_object('function', p_function),
      'Call it first in a transaction of its own.');
  end if;
end $$;
comment on function persona._refuse_late(text) is 'Internal. Raises PJ422 when the transaction is more than a second old.';
