-- After a reconnect: the runner says what it holds. A job that the server thinks it holds and it does not was
-- claimed in a transaction whose answer was lost: nothing was started, so it goes back.
create or replace function persona.reconcile(
  runner_id uuid, held jsonb, connection integer default null)
returns table (job_id uuid, lease bigint, status text, result_status text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_items jsonb;
begin
  perform persona._runner(reconcile.runner_id);
  perform persona._check_connection(reconcile.runner_id, reconcile.connection);
  select coalesce(jsonb_agg(jsonb_build_object(
    'job_id', l.job_id, 'lease', l.lease, 'outcome', 'given_back', 'error', 'the answer to its claim was lost')), '[]')
  into v_items
  from persona.job_leases as l
  where l.runner_id = reconcile.runner_id
    and not exists (
      select from jsonb_to_recordset(coalesce(reconcile.held, '[]')) as h (job_id uuid, lease bigint)
      where h.job_id = l.job_id and h.lease = l.lease);
  return query
    select s.job_id, s.lease, s.status, s.result_status from persona._settle(reconcile.runner_id, v_items) as s;
end $$;
comment on function persona.reconcile(uuid, jsonb, integer) is
  'Runner API. Given [{job_id, lease}] of all that the runner holds, gives back the rest of what the server thinks it holds, and returns that. PJ410; PJ409 where the connection is not the runner''s last one (null: not checked).';
