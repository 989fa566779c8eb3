-- 0029, expand: what three triggers did after each update of a job is done by jobs_sync_queue, which is there already.
-- Online: no table is rewritten. An older release's functions, taken back, make their triggers again.
drop trigger if exists jobs_announce on persona.jobs;
drop trigger if exists jobs_child_ended on persona.jobs;
drop trigger if exists notes_tell on persona.jobs;
drop function if exists persona._jobs_announce();
drop function if exists persona._jobs_child_ended();
drop function if exists persona._notes_tell();
