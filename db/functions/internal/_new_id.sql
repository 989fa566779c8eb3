-- A time-ordered id: UUID version 7, milliseconds since 1970 and then random bits.
-- PostgreSQL 15 to 17 have no function for it; a random version 4 lacks only two bits of the version.
create or replace function persona._new_id() returns uuid
language sql volatile parallel safe
return encode(
  set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
      placing substring(int8send((date_part('epoch', clock_timestamp()) * 1000)::bigint) from 3)
      from 1 for 6),
    52, 1), 53, 1), 'hex')::uuid;
comment on function persona._new_id() is 'Internal. A time-ordered UUID (version 7, RFC 9562).';
