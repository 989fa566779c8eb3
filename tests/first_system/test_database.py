"""persona-migrate database: the rows of the first system's database."""

from __future__ import annotations

import json

import psycopg
import pytest

# The tables as the first system made them, without what no import reads.
OLD_SCHEMA = """
create table jobs (
  id uuid primary key default gen_random_uuid(), short_id text unique, job_type text not null,
  payload jsonb not null default '{}', status text not null, pid integer, hostname text,
  created_at timestamptz default now(), started_at timestamptz, completed_at timestamptz,
  last_heartbeat timestamptz, exit_code integer, error_message text, result jsonb,
  parent_job_id uuid references jobs (id), delegated_by text, assigned_to text, source_file text,
  source_line integer, tags text[] default '{}', added_later text);
create table job_logs (
  id bigserial primary key, job_id uuid references jobs (id), timestamp timestamptz default now(),
  level text not null, message text not null, metadata jsonb default '{}');
create table agents (
  id text primary key, display_name text not null, description text, is_active boolean);
create table daily_note_state (
  note_path text primary key, content_hash text not null, last_content text);
insert into daily_note_state values ('a.md', 'x', 'a secret of the note');
insert into agents values ('assistant', 'Assistant', null, true), ('poet', 'Poet', null, true);
"""
JOBS = """
insert into jobs (short_id, job_type, status, payload, assigned_to, created_at, started_at,
  completed_at, exit_code, error_message)
select right('0000000' || to_hex(n), 8), 'research',
  (array['completed', 'failed', 'cancelled', 'pending', 'running', 'hung'])[1 + n % 6],
  jsonb_build_object('question', 'number ' || n), 'researcher',
  timestamptz '2026-01-01 00:00+00' + n / 4 * interval '1 minute',  -- four in one instant
  timestamptz '2026-01-02 00:00+00', timestamptz '2026-01-02 00:01+00', n % 6,
  case n % 6 when 1 then 'no answer' end
from generate_series(1, 500) as n;
-- Some have lost their time.
update jobs set created_at = null where short_id in ('00000010', '00000011');
-- The parent has the larger id, and a time before its child's.
update jobs set parent_job_id = (select id from jobs where short_id = '00000001')
where short_id = '000001f4';
insert into job_logs (job_id, level, message, timestamp)
select j.id, 'info', 'said ' || n, now() - n * interval '1 hour'
from jobs as j, generate_series(1, 3) as n where j.short_id = '00000002';
insert into job_logs (job_id, level, message, timestamp)
select j.id, 'info', 'too old', now() - interval '90 days' from jobs as j where j.short_id = '00000002';
"""


@pytest.fixture
def old(empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(OLD_SCHEMA)
        conn.execute(JOBS)
        yield conn


@pytest.fixture
def run(report, empty_dsn):
    def call(*arguments, **options):
        document = report("database", "--from", empty_dsn, *arguments, **options)
        return {one["file"]: one for one in document["files"]}

    return call


def test_rows_come_over_once_with_parents_messages_and_short_ids(old, run, queue):
    dry = run("--dry-run")
    assert queue.value("select count(*) from persona.jobs") == 0

    found = run("--business", "work")

    assert found["table jobs"]["imported"] == dry["table jobs"]["imported"] == 500
    counts = dict(
        queue.conn.execute("select status, count(*) from persona.jobs group by 1").fetchall()
    )
    assert counts == {"completed": 83, "failed": 84, "cancelled": 84, "held": 249}
    child = queue.row("select * from persona.get_job('000001f4')")
    parent = queue.row("select * from persona.get_job('00000001')")
    assert (child["parent_job_id"], child["root_job_id"]) == (parent["id"], parent["id"])
    assert (child["business"], child["depth"], child["payload"]) == (
        "work", 1, {"question": "number 500"},
    )  # fmt: skip
    assert parent["error"] == "no answer"
    lines = queue.rows("select message from persona.get_logs('00000002')")
    assert [line["message"] for line in lines] == ["said 1", "said 2", "said 3"]
    assert found["table agents"]["skipped"][0]["examples"] == ["poet"]

    # No text of a note comes over.
    assert "whole text" in found["table daily_note_state"]["skipped"][0]["reason"]
    texts = "select count(*) from persona.daily_note_state"
    assert queue.value(texts) == 0
    assert queue.inconsistencies() == []

    again = run("--business", "work")
    assert again["table jobs"]["imported"] == again["table job_logs"]["imported"] == 0
    assert again["table jobs"]["unchanged"] == 500
    assert queue.value("select count(*) from persona.job_logs") == 3


def test_with_requeue_only_what_waited_is_queued(old, run, queue):
    run("--requeue")

    assert queue.value("select count(*) from persona.job_queue") == 83
    reasons = queue.rows("select distinct status_reason from persona.jobs where status = 'held'")
    assert {r["status_reason"].split(" in ")[0] for r in reasons} == {"was running", "was hung"}


def test_missing_columns_are_no_obstacle_and_nothing_is_written_there(
    old, run, queue, empty_dsn, databases
):
    for column in ("short_id", "parent_job_id", "created_at", "tags", "hostname", "result"):
        old.execute(f"alter table jobs drop column {column}")
    old.execute("drop table agents")
    old.execute("alter table job_logs drop column metadata")

    found = run()

    assert found["table jobs"]["imported"] == 500
    assert "table agents" not in found
    # A second import changes nothing here either.
    assert run()["table jobs"]["unchanged"] == 500


def test_a_database_without_the_tables_is_refused_with_words(report, empty_dsn, migrate):
    done = migrate("database", "--from", empty_dsn)

    assert done.returncode == 78
    assert "no table jobs" in done.stderr
    gone = migrate("database", "--from", "postgresql://me:secret@127.0.0.1:1/x")
    assert gone.returncode == 69
    assert "secret" not in gone.stderr


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (
            "postgresql://u:geheim@127.0.0.1:1/x",
            69,
            "no connection to the old database at 127.0.0.1:1/x",
        ),
        ("https://abc.supabase.co", 78, "--from: that is the address of an HTTP service"),
        ("not one", 78, "--from: the value (not shown) is no libpq connection string"),
    ],
)
def test_a_wrong_address_is_one_line(migrate, source, code, words):
    done = migrate("database", "--from", source)

    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert words in line
    assert "geheim" not in line


def test_imported_messages_leave_with_their_retention(conn, queue):
    queue.conn.execute(
        "insert into persona.job_logs (day, job_id, lease, seq, message)"
        " values (current_date - 40, gen_random_uuid(), 0, 1, 'old'),"
        " (current_date - 2, gen_random_uuid(), 0, 1, 'fresh')"
    )

    queue.conn.execute("select persona._upkeep_logs(null)")

    assert queue.rows("select message from persona.job_logs") == [{"message": "fresh"}]


def test_an_import_names_what_it_refuses(queue):
    with pytest.raises(psycopg.Error) as caught:
        queue.conn.execute("select persona.import_jobs(%s)", (json.dumps([{"odd": 1}]),))
    assert caught.value.sqlstate == "PJ422"
    assert "odd" in str(caught.value)
    item = {
        "id": "01890000-0000-7000-8000-000000000001",
        "job_type": "t",
        "agent": "a",
        "created_at": "2026-01-01",
    }
    for status in ("pending", "running", "blocked", None):
        with pytest.raises(psycopg.Error, match="status is"):
            queue.conn.execute(
                "select persona.import_jobs(%s)", (json.dumps([item | {"status": status}]),)
            )
