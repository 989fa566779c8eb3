-- An error as programs see it. retryable: the same call may succeed in a moment, and repeating it does no harm.
create or replace function persona._rpc_error(p_sqlstate text, p_message text, p_detail text, p_hint text)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_code text := case
    when p_sqlstate = 'PJ404' then 'not_found'
    when p_sqlstate = 'PJ402' then 'over_budget'
    when p_sqlstate = 'PJ300' then 'ambiguous'
    when p_sqlstate in ('PJ409', 'PJ410', '40001', '40P01', '55P03') then 'conflict'
    when p_sqlstate = 'PJ422' then 'invalid'
    when p_sqlstate = 'PJ423' then 'illegal'
    when p_sqlstate in ('PJ403', '42501') then 'denied'
    -- Values that fit nowhere, broken rules of a table, sizes and nesting without end.
    when left(p_sqlstate, 2) in ('22', '23') or p_sqlstate in ('54000', '54001') then 'invalid'
    when p_sqlstate = '57014' then 'timeout'
    when left(p_sqlstate, 2) in ('08', '53', '57') then 'db_unreachable'
    else 'internal'
  end;
  v_detail jsonb := jsonb_build_object();
  -- Planned before an upgrade that was committed while the call waited for a lock.
  v_is_stale boolean := p_sqlstate in ('XX000', '0A000', '42804')
    and p_message ~ '^(cache lookup failed|cached plan must not|function return row|structure of query)';
begin
  if left(p_sqlstate, 2) = 'PJ' then
    select coalesce(jsonb_object_agg(persona._camel(d.key), d.value), '{}') into v_detail
    from jsonb_each(nullif(p_detail, '')::jsonb) as d;
  else
    v_detail := jsonb_strip_nulls(jsonb_build_object('sqlstate', p_sqlstate, 'text', nullif(p_detail, '')));
  end if;
  return jsonb_build_object(
    'code', v_code, 'message', p_message,
    'retryable', v_code in ('timeout', 'db_unreachable') or p_sqlstate in ('40001', '40P01', '55P03') or v_is_stale,
    'detail', v_detail)
    || case when p_hint <> '' then jsonb_build_object('hint', p_hint) else '{}' end;
end $$;
comment on function persona._rpc_error(text, text, text, text) is 'Internal. The error object of the wrappers.';
