-- The first system's client repeats a call whose error holds one of some words. An error that lasts must not.
create or replace function persona._bridge_text(p_message text) returns text
language sql immutable
set search_path = pg_catalog, persona, pg_temp as $$
  select regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(p_message,
    'network', 'net', 'gi'), 'connection', 'link', 'gi'), 'timeout', 'time limit', 'gi'),
    'rate limit', 'rate bound', 'gi'), 'econn', 'e-conn', 'gi'), '(4)(29)|(50)([23])', '\1\3.\2\4', 'g');
$$;
comment on function persona._bridge_text(text) is 'Internal. A message without the words that make the first system''s client try again.';
