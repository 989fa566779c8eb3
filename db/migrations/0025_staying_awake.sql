-- 0025, expand: claim_jobs gets stays_awake, for runners that are woken faster than they could go to sleep.
-- Online: one function of another signature; calls without the argument do what they did.
drop function if exists persona.claim_jobs(uuid, integer, integer);
