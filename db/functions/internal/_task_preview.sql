-- Only the beginning is looked at: a payload may have megabytes.
create or replace function persona._task_preview(p_payload jsonb) returns text
language sql immutable
return left(regexp_replace(left(coalesce(
  p_payload ->> 'question', p_payload ->> 'prompt', p_payload ->> 'script', p_payload ->> 'title',
  (select string_agg(a.word, ' ' order by a.n)
   from jsonb_array_elements_text(case jsonb_typeof(p_payload -> 'argv') when 'array' then p_payload -> 'argv' end)
     with ordinality as a (word, n)),
  nullif(p_payload::text, '{}'), ''), 1000), '\s+', ' ', 'g'), 80);
comment on function persona._task_preview(jsonb) is 'Internal. The task in up to 80 characters, for listings.';
