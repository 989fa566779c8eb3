-- Keys of a job object, as wrappers write them, become the argument names of create_job.
create or replace function persona._snake_keys(p_object jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select coalesce(jsonb_object_agg(
    case e.key
      when 'type' then 'job_type'
      when 'assignedTo' then 'agent'
      when 'parentId' then 'parent_job_id'
      else lower(regexp_replace(e.key, '([A-Z])', '_\1', 'g'))
    end, e.value), '{}')
  from jsonb_each(p_object) as e;
$$;
comment on function persona._snake_keys(jsonb) is 'Internal. Keys of a job object as argument names of create_job.';
