-- Costs nothing for a usual payload: it asks for the size as it lies in memory, and for the setting only where that is
-- more than any setting forbids. create_job relies on that number.
create or replace function persona._check_payload(p_payload jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_size bigint := pg_column_size(p_payload);
  v_most bigint;
begin
  if v_size <= 65536 then
    return;
  end if;
  v_most := greatest(65536, persona._setting('max_payload_bytes')::bigint);
  if v_size > v_most then
    perform persona._raise('PJ422', format('payload is %s bytes long: at most %s are allowed', v_size, v_most),
      jsonb_build_object('argument', 'payload', 'bytes', v_size, 'allowed', v_most),
      'Give the job the path of a file, or a part of it; an admin may raise the setting max_payload_bytes.');
  end if;
end $$;
comment on function persona._check_payload(jsonb) is 'Internal. Refuses a payload of more than max_payload_bytes. PJ422.';
