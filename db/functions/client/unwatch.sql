create or replace function persona.unwatch(id uuid) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  delete from persona.watchers as w where w.id = unwatch.id;
  return found;
end $$;
comment on function persona.unwatch(uuid) is 'Viewer API. Ends a watch before its time. False where there was none.';
