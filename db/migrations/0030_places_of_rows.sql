-- 0030, expand: a claim is handed on where the rows that it has locked are, so two internal functions have other results.
-- Online: no table is touched.
drop function if exists persona._pick_jobs(text[], integer[], integer);
drop function if exists persona._pick_from_place(jsonb, text[], integer[], integer);
