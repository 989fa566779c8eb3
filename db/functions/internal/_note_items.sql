-- The marked lines of intake_notes as rows, in the order given, each with its hash and its place among its equals.
-- Answered ones are counted first, so that striking one out, or taking one away, gives no other a new number:
-- a number is new only where the note holds more of the same marker than ever before.
create or replace function persona._note_items(p_notes jsonb)
returns table (
  n bigint, note text, path text, kind text, question text, line integer, heading text, code_path text,
  is_answered boolean, marker text, ordinal integer)
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  select row_number() over (order by i.note_n, i.n), i.note, i.path, i.kind, i.question, i.line, i.heading,
    i.code_path, i.is_answered, i.marker,
    (row_number() over (partition by i.note, i.marker order by i.is_answered desc, i.n))::integer
  from (
    select d.n as note_n, coalesce(d.note, d.path) as note, d.path, m.n, m.kind, m.text as question, m.line,
      m.heading, nullif(m.code_path, '') as code_path, coalesce(m.answered, false) as is_answered,
      encode(sha256(convert_to(
        m.kind || E'\n' || coalesce(nullif(m.code_path, '') || ' - ', '') || btrim(regexp_replace(m.text, '\s+', ' ', 'g')),
        'UTF8')), 'hex') as marker
    from rows from (jsonb_to_recordset(p_notes) as (path text, note text, markers jsonb)) with ordinality
      as d (path, note, markers, n)
    cross join lateral rows from (
      jsonb_to_recordset(coalesce(d.markers, '[]')) as (
        kind text, text text, line integer, heading text, code_path text, answered boolean)) with ordinality
      as m (kind, text, line, heading, code_path, answered, n)
  ) as i;
$$;
comment on function persona._note_items(jsonb) is 'Internal. Marked lines as rows with hash and ordinal.';
