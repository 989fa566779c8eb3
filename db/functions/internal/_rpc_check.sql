-- What holds for every command: the caller may do it, and the body is an object with known keys only.
create or replace function persona._rpc_check(p_command text, p_function text, p_body jsonb, p_known text[], p_needed text[])
returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_key text;
begin
  if not persona._may(p_function) then
    perform persona._raise('PJ403', format('role %s may not use %s', persona._caller(), p_command),
      jsonb_build_object('command', p_command, 'role', persona._caller()),
      'persona_client may create and control jobs, persona_admin everything: an admin grants one of them.');
  end if;
  if jsonb_typeof(p_body) <> 'object' then
    perform persona._invalid('body', left(p_body::text, 100), 'a JSON object is needed');
  end if;
  select k.key into v_key from jsonb_object_keys(p_body) as k (key) where not k.key = any(p_known) limit 1;
  if found then
    -- As the caller writes them: the names of create_job are the camel case of these, but for the type.
    perform persona._invalid('body', persona._camel(v_key), case when cardinality(p_known) = 0
      then format('%s takes no arguments', p_command)
      else format('the arguments of %s are %s', p_command, (
        select string_agg(case n.key when 'job_type' then 'type' else persona._camel(n.key) end, ', ' order by n.i)
        from unnest(p_known) with ordinality as n (key, i))) end);
  end if;
  select n.key into v_key from unnest(p_needed) as n (key) where coalesce(p_body ->> n.key, '') = '' limit 1;
  if found then
    perform persona._invalid(case v_key when 'job_type' then 'type' else v_key end, null, format('%s needs it', p_command));
  end if;
end $$;
comment on function persona._rpc_check(text, text, jsonb, text[], text[]) is
  'Internal. Checks right and arguments of an rpc command. PJ403, PJ422.';
