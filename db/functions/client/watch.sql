-- Registers a watcher, which must LISTEN already. What was under way at that moment may not have seen it: it reads
-- until is_settled says that this is over, for a horizon taken in a transaction of its own after this one.
create or replace function persona.watch(
  id uuid, job_ids uuid[] default null, logs boolean default false, seconds integer default 60
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if watch.id is null then
    perform persona._invalid('id', null, 'an id made by the watcher is needed');
  elsif watch.seconds is null or watch.seconds not between 1 and 3600 then
    perform persona._invalid('seconds', watch.seconds::text, '1 to 3600 is allowed');
  elsif cardinality(watch.job_ids) not between 1 and 1000 then
    perform persona._invalid('job_ids', cardinality(watch.job_ids)::text || ' ids',
      '1 to 1000 ids are allowed, or null for everything');
  end if;
  delete from persona.watchers as w
  where w.ctid = any(array(
    select o.ctid from persona.watchers as o where o.expires_at < now() limit 100 for update skip locked));
  delete from persona.watchers as w where w.id = watch.id;
  insert into persona.watchers (id, job_id, wants_logs, expires_at)
  select watch.id, j.job_id, watch.logs and j.job_id is not null, now() + make_interval(secs => watch.seconds)
  from unnest(coalesce(watch.job_ids, array[null::uuid])) as j (job_id);
end $$;
comment on function persona.watch(uuid, uuid[], boolean, integer) is
  'Viewer API. For so many seconds changes of these jobs (null: of everything) are notified on channel persona_changes, and with logs new log lines on persona_logs. LISTEN before, read after; call it again to go on. PJ422.';
