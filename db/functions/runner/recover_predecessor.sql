-- The jobs that a dead predecessor left, once the new runner has killed their processes. Only for a runner that
-- proved at registration that this very predecessor is dead and was on this machine; what that one had taken over and
-- not yet recovered comes with it.
create or replace function persona.recover_predecessor(runner_id uuid)
returns table (id uuid, short_id text, status text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_runner persona.runners := persona._runner(recover_predecessor.runner_id);
begin
  if not v_runner.may_take_over then
    perform persona._raise('PJ403',
      format('runner %s registered without proof that its predecessor is dead', v_runner.name),
      jsonb_build_object('runner_id', v_runner.id), 'Wait until the leases run out.');
  end if;
  return query
    with recursive dead as (
      select v_runner.predecessor_id as id
      union
      select r.predecessor_id from dead as d join persona.runners as r on r.id = d.id
    )
    select o.id, o.short_id, o.status, o.reason
    from dead as d
    join persona.runners as r on r.id = d.id
    join persona.job_leases as l on l.runner_id = r.id
    cross join lateral persona._orphan(l.job_id, l.lease, 'its runner died', true) as o
    where r.name = v_runner.name and r.ended_at is not null
      and r.machine_id is not distinct from v_runner.machine_id
      and r.pid_namespace is not distinct from v_runner.pid_namespace;
end $$;
comment on function persona.recover_predecessor(uuid) is
  'Runner API. Records what a dead predecessor of the same name and machine left running as orphaned and makes it pending again, or failed after too many rescues. PJ403, PJ410.';
