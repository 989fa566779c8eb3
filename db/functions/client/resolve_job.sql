-- Finds a job by its whole id, its short id, or any unambiguous beginning of the short id or of the id.
create or replace function persona.resolve_job(ref text) returns uuid
language plpgsql stable security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_ref text := lower(btrim(resolve_job.ref));
  v_digits text := replace(v_ref, '-', '');
  v_id uuid;
  v_found uuid[];
begin
  if v_ref is null or v_digits !~ '^[0-9a-f]{1,32}$' then
    perform persona._raise('PJ404', format('no job "%s"', left(coalesce(resolve_job.ref, ''), 100)),
      jsonb_build_object('ref', left(resolve_job.ref, 100)),
      'A job is named by its id, its short id, or the beginning of one: hexadecimal digits.');
  end if;
  if length(v_digits) = 32 then
    select j.id into v_id from persona.jobs as j where j.id = v_digits::uuid;
    if found then
      return v_id;
    end if;
  else
    if length(v_digits) <= 8 then
      v_found := array(
        select j.id from persona.jobs as j
        where j.short_id ~>=~ v_digits and j.short_id ~<~ (v_digits || 'g') order by j.id desc limit 6);
    end if;
    if coalesce(cardinality(v_found), 0) = 0 then
      -- The beginning of a whole id, as copied from a listing: a range of the primary key.
      v_found := array(
        select j.id from persona.jobs as j
        where j.id between rpad(v_digits, 32, '0')::uuid and rpad(v_digits, 32, 'f')::uuid
        order by j.id desc limit 6);
    end if;
    if cardinality(v_found) = 1 then
      return v_found[1];
    elsif cardinality(v_found) > 1 then
      perform persona._raise('PJ300', format('"%s" fits %s jobs', v_ref,
          case when cardinality(v_found) > 5 then 'more than 5' else cardinality(v_found)::text end),
        jsonb_build_object('ref', v_ref, 'candidates', to_jsonb(v_found[1:5])),
        'Give more characters, or the whole id.');
    end if;
  end if;
  perform persona._raise('PJ404', format('no job "%s"', v_ref), jsonb_build_object('ref', v_ref),
    'See persona jobs, or select * from persona.job_dashboard.');
  return null;
end $$;
comment on function persona.resolve_job(text) is
  'Viewer API. The id of the job meant by a whole id, a short id, or an unambiguous beginning of either. PJ404, PJ300.';
