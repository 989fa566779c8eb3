-- One look at the index: claimable entries (p_parked_for null), or those that are parked for a limit or a budget.
create or replace function persona._next_priority(p_agent text, p_parked_for text, p_below integer) returns integer
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set enable_seqscan = off as $$
begin
  if p_parked_for is null then
    return (
      select q.priority from persona.job_queue as q
      where q.waits_on is null and q.agent = p_agent and q.priority < coalesce(p_below::bigint, 2147483648)
      order by q.priority desc limit 1);
  end if;
  return (
    select q.priority from persona.job_queue as q
    where q.waits_on = 'limit' and q.parked_for = p_parked_for and q.agent = p_agent
      and q.priority < coalesce(p_below::bigint, 2147483648)
    order by q.priority desc limit 1);
end $$;
comment on function persona._next_priority(text, text, integer) is
  'Internal. The highest priority below the one given (null: of all) at which jobs of the agent wait.';
