-- A lease number is the microseconds since 1970 at its claim, which tells the partition of its log lines.
create or replace function persona._lease_day(p_lease bigint) returns date
language sql immutable parallel safe
return (to_timestamp(p_lease / 1000000.0) at time zone 'UTC')::date;
comment on function persona._lease_day(bigint) is 'Internal. Day (UTC) under which the log lines of an execution are stored.';
