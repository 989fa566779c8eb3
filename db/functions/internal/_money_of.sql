-- Exact where the caller holds the advisory lock on the bucket since an earlier statement: a reservation is made under
-- that lock, and booking and the end of the reservation are one commit.
-- What is reserved is read from the leases, so that no end of an execution, whatever it was, can leave any behind. It
-- counts in every period: what runs over midnight is booked on the day on which it ends.
-- A budget of each tree or job has no subject before it has spent something: nothing then.
-- lent: reserved for jobs that wait for others, which will not give it back before those have run.
create or replace function persona._money_of(
  p_scope text, p_subject text, p_period text, out booked numeric, out reserved numeric, out lent numeric)
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off as $$
declare
  v_since date := persona._period_start(p_period);
  v_jobs uuid[];
  v_id uuid;
begin
  if p_scope in ('total', 'agent', 'business') then
    select coalesce(sum(c.booked_usd), 0) into booked
    from (
      select t.booked_usd, t.agent, t.business from persona.cost_totals as t where t.day >= v_since
      union all
      select f.booked_usd, f.agent, f.business from persona.cost_fresh as f where f.day >= v_since) as c
    where case p_scope when 'agent' then c.agent = p_subject when 'business' then c.business = p_subject else true end;
    select coalesce(sum(l.reserved_usd), 0), coalesce(sum(l.reserved_usd) filter (where l.is_waiting), 0)
    into reserved, lent
    from persona.job_leases as l
    where l.reserved_usd is not null
      and case p_scope
        when 'agent' then l.agent = p_subject
        when 'business' then exists (select from persona.jobs as j where j.id = l.job_id and j.business = p_subject)
        else true
      end;
    return;
  end if;

  v_id := nullif(p_subject, '')::uuid;
  if p_scope = 'tree' then
    select coalesce(sum(c.amount_usd), 0) into booked from persona.cost_ledger as c
    where c.root_job_id = v_id and c.kind = 'booked' and c.at >= v_since::timestamp at time zone 'UTC';
  else
    v_jobs := array[v_id];
    if p_scope = 'below' then
      v_jobs := array(
        with recursive below as (
          select v_id as id
          union all
          select j.id from below as b join persona.jobs as j on j.parent_job_id = b.id
        )
        select b.id from below as b);
    end if;
    select coalesce(sum(c.amount_usd), 0) into booked from persona.cost_ledger as c
    where c.job_id = any(v_jobs) and c.kind = 'booked' and c.at >= v_since::timestamp at time zone 'UTC';
  end if;
  select coalesce(sum(l.reserved_usd), 0), coalesce(sum(l.reserved_usd) filter (where l.is_waiting), 0)
  into reserved, lent
  from persona.job_leases as l
  where l.reserved_usd is not null
    and case p_scope
      when 'tree' then exists (
        select from persona.jobs as j where j.id = l.job_id and j.root_job_id = v_id)
      else l.job_id = any(v_jobs)
    end;
end $$;
comment on function persona._money_of(text, text, text) is
  'Internal. Booked in the running period, and reserved for what runs, of a budget scope and subject, in US dollars.';
