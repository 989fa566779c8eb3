-- A wait for a provider costs no attempt, and must come to an end all the same. Counted are the executions that ended
-- in a wait since the last one that counted as an attempt or was held, the one that ends now with them.
create or replace function persona._waited_out(p_job_id uuid) returns text
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_most integer := persona._setting('max_waits')::integer;
  v_longest interval := make_interval(secs => persona._setting('max_wait_seconds')::double precision);
  v_count bigint;
  v_since timestamptz;
begin
  select count(*) + 1, min(t.ended_at) into v_count, v_since
  from persona.job_attempts as t
  where t.job_id = p_job_id and not t.is_counted and t.outcome in ('rate_limited', 'failed', 'timeout', 'idle_timeout')
    and t.lease > (
      select coalesce(max(o.lease), 0) from persona.job_attempts as o
      where o.job_id = p_job_id and (o.is_counted or o.outcome = 'held'));
  if v_most > 0 and v_count > v_most then
    return format('has waited %s times in a row', v_most);
  elsif v_longest > interval '0' and v_since < now() - v_longest then
    return format('has waited since %s', date_trunc('second', v_since));
  end if;
  return null;
end $$;
comment on function persona._waited_out(uuid) is
  'Internal. Why a job that its provider refuses does not wait any longer; null: it does.';
