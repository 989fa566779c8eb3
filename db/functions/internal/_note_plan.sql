-- What a scan means, before anything is done: for each marked line known, answered, moved (from another note of the
-- same scan) or new, and for a new one the job that it replaces.
-- A line counts as edited where one is gone and a new one stands in its place: between the same known neighbours, in
-- their order. Gone is only what this machine has seen before: a copy of the note that is behind, or ahead, takes
-- nothing away. What went some minutes ago still counts, because an editor saves while one types.
create or replace function persona._note_plan(p_vault text, p_notes jsonb, p_host text)
returns table (
  n bigint, note text, path text, kind text, question text, line integer, heading text, code_path text,
  is_answered boolean, marker text, ordinal integer, action text, job_id uuid, from_note text, from_ordinal integer,
  replaces uuid)
language sql stable
set search_path = pg_catalog, persona, pg_temp as $$
  with item as materialized (
    select i.*, m.job_id, m.line as old_line, m.marker is not null as is_known
    from persona._note_items(p_notes) as i
    left join persona.note_markers as m
      on m.vault = p_vault and m.note = i.note and m.marker = i.marker and m.ordinal = i.ordinal
  ), gone as materialized (
    select m.note, m.marker, m.ordinal, m.line, m.job_id, p_host = any(m.seen_by) as was_here
    from persona.note_markers as m
    where m.vault = p_vault and m.job_id is not null and not m.is_answered
      and m.note in (
        select coalesce(d.note, d.path) from jsonb_to_recordset(p_notes) as d (path text, note text))
      and (m.vanished_at is null or m.vanished_at > now() - interval '10 minutes')
      and not exists (
        select from item as i where i.note = m.note and i.marker = m.marker and i.ordinal = m.ordinal)
  ), fresh as materialized (
    select i.*, row_number() over (partition by i.marker order by i.n) as k
    from item as i where not i.is_known and not i.is_answered
  ), moved as materialized (
    select f.n, g.note, g.ordinal, g.job_id, g.marker
    from fresh as f
    join (
      select o.*, row_number() over (partition by o.marker order by o.note desc, o.ordinal) as k from gone as o) as g
      on g.marker = f.marker and g.k = f.k
  ), edited as (
    select f.n, g.job_id
    from (
      select i.n, i.note, i.gap, row_number() over (partition by i.note, i.gap order by i.n) as k
      from (
        select a.*, count(*) filter (where a.is_known) over (partition by a.note order by a.line, a.n) as gap
        from item as a) as i
      where not i.is_known and not i.is_answered and not exists (select from moved as v where v.n = i.n)) as f
    join (
      select o.*, row_number() over (partition by o.note, o.gap order by o.line) as k
      from (
        select g.*, (
          select count(*) from item as i where i.note = g.note and i.is_known and i.old_line < g.line) as gap
        from gone as g
        join persona.jobs as j on j.id = g.job_id and j.status in ('blocked', 'pending', 'held')
        where g.was_here and not exists (
          select from moved as v where v.note = g.note and v.marker = g.marker and v.ordinal = g.ordinal)) as o) as g
      on g.note = f.note and g.gap = f.gap and g.k = f.k
  )
  select i.n, i.note, i.path, i.kind, i.question, i.line, i.heading, i.code_path, i.is_answered, i.marker, i.ordinal,
    case when i.is_known then 'known' when i.is_answered then 'answered' when v.n is not null then 'moved' else 'new' end,
    coalesce(i.job_id, v.job_id), v.note, v.ordinal, e.job_id
  from item as i
  left join moved as v on v.n = i.n
  left join edited as e on e.n = i.n
  order by i.n;
$$;
comment on function persona._note_plan(text, jsonb, text) is 'Internal. What a scan of notes would do, line by line.';
