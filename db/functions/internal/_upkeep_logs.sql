-- Partitions of job_logs: makes those of the coming days, drops those past their retention. Dynamic SQL, because a
-- partition's name and bounds cannot be parameters.
create or replace function persona._upkeep_logs(p_retention_days integer) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set lock_timeout = '100ms' as $$
declare
  v_day date;
  v_name text;
  v_today date := (now() at time zone 'UTC')::date;
  v_made integer := 0;
  v_dropped integer := 0;
begin
  for v_day in select d::date from generate_series(v_today, v_today + 3, interval '1 day') as d loop
    v_name := 'job_logs_' || to_char(v_day, 'YYYYMMDD');
    if to_regclass('persona.' || v_name) is null
       and not exists (select from persona.job_logs_default as l where l.day = v_day)
    then
      begin
        -- Made apart and then attached: attaching locks the parent less than making it in place.
        execute format('create table persona.%I (like persona.job_logs including defaults including constraints)', v_name);
        execute format('comment on table persona.%I is %L', v_name, 'Log lines of ' || v_day);
        execute format('alter table persona.job_logs attach partition persona.%I for values from (%L) to (%L)',
          v_name, v_day, v_day + 1);
        execute format('revoke all on persona.%I from public', v_name);
        v_made := v_made + 1;
      exception when lock_not_available then
        raise notice 'log partition % is made at the next tick: the log table is in use', v_name;
        exit;
      end;
    end if;
  end loop;

  for v_name in
    select c.relname from pg_inherits as i
    join pg_class as c on c.oid = i.inhrelid
    where i.inhparent = 'persona.job_logs'::regclass and c.relname ~ '^job_logs_\d{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') < v_today - coalesce(p_retention_days, persona._setting('log_retention_days')::integer)
    order by c.relname
  loop
    begin
      execute format('drop table persona.%I', v_name);
      v_dropped := v_dropped + 1;
    exception when lock_not_available then
      raise notice 'log partition % is dropped at a later tick: it is in use', v_name;
      exit;
    end;
  end loop;
  -- Days without a partition, such as those of imported messages: nothing else lets go of them.
  delete from persona.job_logs_default as l
  where l.ctid = any(array(
    select o.ctid from persona.job_logs_default as o
    where o.day < v_today - coalesce(p_retention_days, persona._setting('log_retention_days')::integer)
    limit 10000));
  return jsonb_build_object('made', v_made, 'dropped', v_dropped);
end $$;
comment on function persona._upkeep_logs(integer) is 'Internal. Makes and drops partitions of job_logs.';
