create or replace function persona._outcomes() returns text[]
language sql immutable parallel safe
return array[
  'completed', 'failed', 'timeout', 'idle_timeout', 'cancelled', 'held', 'rate_limited', 'given_back', 'orphaned'];
comment on function persona._outcomes() is 'Internal. How an execution may be reported to have ended.';
