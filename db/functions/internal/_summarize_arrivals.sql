-- What came since the last vacuum has no summary in the arrival indexes, and every look through them would read it.
-- Not worth waiting for: a vacuum that is under way does the same.
create or replace function persona._summarize_arrivals() returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp
set lock_timeout = '50ms' as $$
begin
  perform brin_summarize_new_values('persona.jobs_arrival_idx'::regclass);
  perform brin_summarize_new_values('persona.job_attempts_arrival_idx'::regclass);
exception when lock_not_available then
  null;
end $$;
comment on function persona._summarize_arrivals() is 'Internal. Keeps the arrival indexes of jobs and job_attempts up to date.';
