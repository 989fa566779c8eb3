-- The id that a client chose for a new job is that of a job which it may not see. Whoever knows an id learns no more
-- than that it is taken.
create or replace function persona._refuse_foreign_id(p_id uuid) returns void
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if exists (select from persona.jobs as j where j.id = p_id) then
    perform persona._invalid('id', p_id::text, 'this id cannot be used: leave it out, or make another one');
  end if;
end $$;
comment on function persona._refuse_foreign_id(uuid) is 'Internal. Refuses an id that is taken by a job out of sight. PJ422.';
