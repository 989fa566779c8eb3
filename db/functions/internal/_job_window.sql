-- The next ids of a status behind one, in the order of an index. hung and running come from the leases, pending from
-- the queue, the rare ends from the attention index; completed is nearly everything, so it has no place of its own.
create or replace function persona._job_window(p_status text, p_from uuid, p_ascending boolean, p_rows integer)
returns setof uuid
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
  if p_status in ('running', 'hung') then
    return query
      select l.job_id from persona.job_leases as l
      where p_from is null or case when p_ascending then l.job_id > p_from else l.job_id < p_from end
      order by case when p_ascending then l.job_id end, l.job_id desc limit p_rows;
  elsif p_status = 'pending' and p_ascending then
    return query
      select q.job_id from persona.job_queue as q
      where p_from is null or q.seq > (select f.seq from persona.jobs as f where f.id = p_from)
      order by q.seq limit p_rows;
  elsif p_status = 'pending' then
    return query
      select q.job_id from persona.job_queue as q
      where p_from is null or q.seq < (select f.seq from persona.jobs as f where f.id = p_from)
      order by q.seq desc limit p_rows;
  elsif p_status in ('blocked', 'held', 'failed', 'cancelled') and p_ascending then
    return query
      select j.id from persona.jobs as j
      where j.attention = p_status and (p_from is null or j.id > p_from)
      order by j.id limit p_rows;
  elsif p_status in ('blocked', 'held', 'failed', 'cancelled') then
    return query
      select j.id from persona.jobs as j
      where j.attention = p_status and (p_from is null or j.id < p_from)
      order by j.id desc limit p_rows;
  elsif p_ascending then
    return query
      select j.id from persona.jobs as j where p_from is null or j.id > p_from order by j.id limit p_rows;
  else
    return query
      select j.id from persona.jobs as j where p_from is null or j.id < p_from order by j.id desc limit p_rows;
  end if;
end $$;
comment on function persona._job_window(text, uuid, boolean, integer) is
  'Internal. So many ids of jobs of a status (null: any) behind one, newest first or oldest first; with completed, ids of any status.';
