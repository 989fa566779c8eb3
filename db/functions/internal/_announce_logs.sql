-- Tells those who follow a log that there are new lines; see _announce.
create or replace function persona._announce_logs(p_lines jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform pg_notify('persona_logs', 'all');
  elsif exists (select from persona.watchers as w where w.wants_logs) then
    perform pg_notify('persona_logs', w.topic)
    from (
      select distinct s.job_id::text as topic
      from persona.watchers as s
      where s.wants_logs and s.expires_at > now() and s.job_id in (
        select i.job_id from jsonb_to_recordset(p_lines) as i (job_id uuid))) as w;
  end if;
end $$;
comment on function persona._announce_logs(jsonb) is 'Internal. Notifies persona_logs with each job whose log somebody follows.';
