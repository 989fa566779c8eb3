-- Takes in what a scan has found in the daily notes of a vault: a marked line becomes one job, once, whoever scans
-- how often, and also after the job has ended. All notes of a scan come in one call, because the limit is on the scan
-- and because a line may move from yesterday's note to today's.
-- Scans of one vault go one after the other (advisory lock); the primary key of note_markers would refuse a second
-- job even without it. Jobs that go are locked first, in the order of every writer.
create or replace function persona.intake_notes(
  vault text, notes jsonb, host text default null, business text default null, max_new integer default 10,
  confirmed boolean default false, dry_run boolean default false
) returns table (
  path text, line integer, kind text, question text, action text, job_id uuid, short_id text, job_type text,
  agent text, for_business text, reason text)
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
#variable_conflict use_column
declare
  v_vault constant text := intake_notes.vault;
  v_notes constant jsonb := intake_notes.notes;
  v_business constant text := nullif(intake_notes.business, '');
  v_host constant text := coalesce(intake_notes.host, '');
  v_plan jsonb;
  v_new bigint;
  v_stop text;
  v_item record;
  v_wanted record;
  v_job persona.jobs;
  v_action text;
  v_reason text;
  v_routes constant jsonb := persona._setting('note_routes')::jsonb;
begin
  perform persona._check_notes(v_vault, v_notes);
  perform pg_advisory_xact_lock(hashtext('persona.notes'), hashtext(v_vault));
  select coalesce(jsonb_agg(to_jsonb(p) order by p.n), '[]'), count(*) filter (where p.action = 'new')
  into v_plan, v_new
  from persona._note_plan(v_vault, v_notes, v_host) as p;

  v_stop := case
    when intake_notes.dry_run then 'dry run'
    when v_new = 0 or intake_notes.confirmed then null
    when not exists (select from persona.daily_note_state as s where s.vault = v_vault) then
      'the first scan of this vault'
    when v_new > intake_notes.max_new then format('%s new ones, more than %s', v_new, intake_notes.max_new)
  end;
  if v_stop is null then
    perform from persona.jobs as j
    where j.id in (
      select coalesce(p.replaces, p.job_id)
      from jsonb_to_recordset(v_plan) as p (replaces uuid, job_id uuid, is_answered boolean)
      where p.replaces is not null or (p.is_answered and p.job_id is not null))
    order by j.id for no key update;
  end if;

  for v_item in
    select p.* from jsonb_to_recordset(v_plan) as p (
      n bigint, note text, path text, kind text, question text, line integer, heading text, code_path text,
      is_answered boolean, marker text, ordinal integer, action text, job_id uuid, from_note text,
      from_ordinal integer, replaces uuid)
    order by p.n
  loop
    v_action := v_item.action;
    v_reason := null;
    v_job := null;
    select * into v_job from persona.jobs as j where j.id = v_item.job_id;
    v_wanted := persona._note_job(v_item.kind, v_item.question, v_item.code_path, v_item.path, v_item.line);

    if v_action = 'new' and v_stop is not null then
      v_action := 'would_create';
      v_reason := v_stop;
    elsif v_action = 'new' then
      begin
        insert into persona.note_markers (vault, note, marker, ordinal, kind, path, line, seen_by)
        values (v_vault, v_item.note, v_item.marker, v_item.ordinal, v_item.kind, v_item.path, v_item.line, array[v_host]);
        v_job := persona.create_job(
          job_type => v_wanted.job_type, payload => v_wanted.payload, agent => v_wanted.agent,
          dedupe_key => 'note:' || encode(sha256(convert_to(
            concat_ws(E'\n', v_vault, v_item.note, v_item.marker, v_item.ordinal), 'UTF8')), 'hex'),
          tags => '{note}', source_file => v_item.path, source_line => v_item.line,
          business => coalesce(v_routes ->> v_item.heading, v_business));
        if v_item.kind = 'Q' then
          v_job := persona.hold_job(v_job.id::text, 'deferred in the note');
        end if;
        update persona.note_markers as m set job_id = v_job.id
        where m.vault = v_vault and m.note = v_item.note and m.marker = v_item.marker and m.ordinal = v_item.ordinal;
        v_action := 'created';
      exception when others then
        -- One that is refused (its agent is for admins only) keeps no other out, and is tried again by the next scan.
        if sqlstate !~ '^PJ' then
          raise;
        end if;
        v_action := 'refused';
        v_reason := sqlerrm;
        v_job := null;
      end;
    elsif v_stop is null and v_action = 'answered' then
      insert into persona.note_markers (vault, note, marker, ordinal, kind, path, line, is_answered, seen_by)
      values (v_vault, v_item.note, v_item.marker, v_item.ordinal, v_item.kind, v_item.path, v_item.line, true, array[v_host]);
    elsif v_stop is null then
      -- One that went some minutes ago and is back here: where it went is known by now.
      update persona.note_markers as m
      set note = v_item.note, path = v_item.path, ordinal = v_item.ordinal, line = v_item.line, vanished_at = null,
          is_answered = v_item.is_answered,
          seen_by = case when v_host = any(m.seen_by) then m.seen_by else m.seen_by || v_host end
      where m.vault = v_vault and m.note = coalesce(v_item.from_note, v_item.note) and m.marker = v_item.marker
        and m.ordinal = coalesce(v_item.from_ordinal, v_item.ordinal);
    end if;
    return query select v_item.path, v_item.line, v_item.kind, v_item.question,
      case when v_item.is_answered then 'answered' else v_action end,
      coalesce(v_job.id, v_item.job_id), v_job.short_id,
      coalesce(v_job.job_type, v_wanted.job_type), coalesce(v_job.agent, v_wanted.agent, (
        select t.default_agent from persona.job_types as t where t.name = v_wanted.job_type)),
      coalesce(v_job.business, v_routes ->> v_item.heading, v_business), v_reason;

    -- The old job of an edited question, and one whose question was struck through before it began.
    if v_stop is null and v_action <> 'refused' then
      select * into v_job from persona.jobs as j
      where j.id = coalesce(v_item.replaces, case when v_item.is_answered then v_item.job_id end)
        and j.status in ('blocked', 'pending', 'held');
      if found then
        v_reason := case when v_item.is_answered then 'answered in the note' else 'edited in the note' end;
        v_job := persona._stop_job(v_job.id, v_reason, false, 'cancelled');
        return query select v_item.path, v_item.line, v_item.kind, persona._task_preview(v_job.payload), 'cancelled',
          v_job.id, v_job.short_id, v_job.job_type, v_job.agent, v_job.business, v_reason;
      end if;
    end if;
  end loop;
  if v_stop is not null then
    return;
  end if;

  update persona.note_markers as m set vanished_at = now()
  where m.vault = v_vault and m.vanished_at is null and v_host = any(m.seen_by)
    and m.note in (select coalesce(d.note, d.path) from jsonb_to_recordset(v_notes) as d (path text, note text))
    and not exists (
      select from jsonb_to_recordset(v_plan) as p (note text, marker text, ordinal integer)
      where p.note = m.note and p.marker = m.marker and p.ordinal = m.ordinal);
  insert into persona.daily_note_state as s (vault, path, sha256, scanned_at, markers)
  select v_vault, d.path, d.sha256, now(), coalesce((
    select jsonb_agg(jsonb_build_object(
      'kind', m.kind, 'hash', m.marker, 'ordinal', m.ordinal, 'line', m.line, 'job', m.job_id) order by m.line)
    from persona.note_markers as m
    where m.vault = v_vault and m.note = coalesce(d.note, d.path) and m.vanished_at is null), '[]')
  from jsonb_to_recordset(v_notes) as d (path text, note text, sha256 text)
  on conflict (vault, path) do update
  set sha256 = excluded.sha256, scanned_at = excluded.scanned_at, markers = excluded.markers;
end $$;
comment on function persona.intake_notes(text, jsonb, text, text, integer, boolean, boolean) is
  'Client API. Makes jobs of the marked lines of daily notes, each once: notes is an array of {path, note (its date), sha256, markers: [{kind, text, line, heading, code_path, answered}]}. host names the scanning machine. The first scan of a vault, and one with more than max_new new lines, creates nothing unless confirmed. One row a line: action created, known, moved, answered (struck through), would_create or refused, and cancelled for a job that an edit has replaced. PJ422.';
