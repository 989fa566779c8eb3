"""intake_notes: a marked line becomes one job, once, whoever scans how often."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqltest import Queue, refused

TODAY = "2026-03-02"
YESTERDAY = "2026-03-01"


def note(*lines, day=TODAY, path=None):
    """A note with one marked line on each line: a text (research), or a marker with its parts."""
    markers = [
        {"kind": "?", "line": at, "text": line} if isinstance(line, str) else {"line": at} | line
        for at, line in enumerate(lines, 1)
    ]
    text = repr(lines).encode()
    return {
        "path": path or f"Daily/{day}.md",
        "note": day,
        "sha256": hashlib.sha256(text).hexdigest(),
        "markers": markers,
    }


def marker(kind, text, **more):
    return {"kind": kind, "text": text} | more


def struck(text):
    return marker("?", text, answered=True)


@pytest.fixture(scope="module")
def shared_connection(databases, postgresql_noproc):
    name = databases.create(postgresql_noproc.template_dbname)
    with psycopg.connect(databases.dsn(name, superuser=True)) as conn:
        yield conn
    databases.drop(name)


@pytest.fixture
def queue(request):
    """Functions of the schema: in a transaction that is taken back, or with others connected."""
    if "connect" in request.fixturenames:
        found = Queue(request.getfixturevalue("conn"))
        found.agent(max_attempts=3)
        yield found
        assert found.inconsistencies() == []
        return
    found = Queue(request.getfixturevalue("shared_connection"))
    try:
        found.agent(max_attempts=3)
        yield found
        assert found.inconsistencies() == []
    finally:
        found.conn.rollback()


@pytest.fixture
def scan(queue):
    """Scan notes as a machine; returns the rows."""

    def call(*notes, host="desk", queue=queue, confirmed=True, **options):
        given = {"vault": "V", "host": host, "confirmed": confirmed} | options
        return queue.call("intake_notes", notes=list(notes) or [note()], **given)

    return call


def actions(rows):
    return [(row["action"], row["question"]) for row in rows]


def jobs(queue):
    return queue.rows("select * from persona.jobs order by seq")


def statuses(queue):
    return {job["payload"].get("question"): job["status"] for job in jobs(queue)}


# -- once and only once


def test_a_marked_line_becomes_one_job_however_often_it_is_scanned(queue, scan):
    [first] = scan(note("Why?"))
    again = [scan(note("Why?")) for _ in range(3)]

    [job] = jobs(queue)
    assert (first["action"], first["job_id"]) == ("created", job["id"])
    assert [[(r["action"], r["job_id"]) for r in rows] for rows in again] == [
        [("known", job["id"])]
    ] * 3
    assert (job["job_type"], job["agent"]) == ("research", "researcher")
    assert (job["payload"], job["status"]) == ({"question": "Why?"}, "pending")
    assert (job["source_file"], job["source_line"]) == (f"Daily/{TODAY}.md", 1)
    assert job["tags"] == ["note"]


def test_it_makes_no_second_job_when_the_first_has_ended_or_is_deleted(queue, runner, scan):
    scan(note("Why?"))
    [run] = queue.claim(runner)
    queue.report(runner, run, result={"text": "So."})
    assert actions(scan(note("Why?"))) == [("known", "Why?")]

    queue.run("delete from persona.jobs")
    assert actions(scan(note("Why?"))) == [("known", "Why?")]
    assert jobs(queue) == []


def test_a_line_that_moves_or_an_edit_elsewhere_makes_no_second_job(queue, scan):
    scan(note("a", "b", "c"))
    scan(note("c", "a", marker("?", "d"), "b"))

    assert [job["payload"]["question"] for job in jobs(queue)] == ["a", "b", "c", "d"]
    assert set(statuses(queue).values()) == {"pending"}


def test_spaces_are_no_edit(queue, scan):
    scan(note("a  b"))
    scan(note("a b "))

    assert len(jobs(queue)) == 1


def test_another_folder_for_daily_notes_asks_nothing_again(queue, scan):
    scan(note("a"))
    scan(note("a", path=f"Journal/{TODAY}.md"))

    assert len(jobs(queue)) == 1
    assert queue.value("select path from persona.note_markers") == f"Journal/{TODAY}.md"


def test_the_same_text_twice_is_two_jobs_and_in_another_note_a_third(queue, scan):
    scan(note("a", "a"))
    scan(note("a", "a"), note("a", day=YESTERDAY))

    assert len(jobs(queue)) == 3


def test_another_vault_has_jobs_of_its_own(queue, scan):
    scan(note("a"))
    scan(note("a"), vault="W")

    assert len(jobs(queue)) == 2


def test_a_line_that_rolls_over_to_the_next_day_takes_its_job_along(queue, scan):
    scan(note("a", "b", day=YESTERDAY))
    rows = scan(note("b", day=YESTERDAY), note("new", "a"))

    assert actions(rows) == [("known", "b"), ("created", "new"), ("moved", "a")]
    assert set(statuses(queue).values()) == {"pending"}
    assert actions(scan(note("b", day=YESTERDAY), note("new", "a"))) == [
        ("known", "b"), ("known", "new"), ("known", "a")]  # fmt: skip


def test_two_scanners_at_once_make_one_job_a_line(queue, another, scan):
    notes = [
        note(*(f"{day} {n}" for n in range(20)), day=f"2026-01-{day:02}") for day in range(1, 6)
    ]
    scanners = [another(f"scanner {n}") for n in range(4)]

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda n: scan(*notes, queue=scanners[n], host=f"h{n}"), range(4)))

    made = [row["job_id"] for rows in found for row in rows if row["action"] == "created"]
    assert len(made) == len(set(made)) == len(jobs(queue)) == 100


def test_a_scan_waits_for_the_one_before_and_then_finds_its_jobs(
    queue, another, scan, wait_until_blocked
):
    first, second = another("first"), another("second")
    first.run("begin")
    scan(note("a"), queue=first)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(scan, note("a"), queue=second, host="other")
        wait_until_blocked("second")
        first.run("commit")
        rows = waiting.result(timeout=5)

    assert actions(rows) == [("known", "a")]
    assert len(jobs(queue)) == 1


# -- edits


def test_an_edited_question_makes_a_new_job_and_cancels_the_old_one(queue, scan):
    scan(note("a", "Whi?", "c"))
    rows = scan(note("a", "Why?", "c"))

    assert actions(rows) == [
        ("known", "a"), ("created", "Why?"), ("cancelled", "Whi?"), ("known", "c")]  # fmt: skip
    assert statuses(queue) == {
        "a": "pending",
        "Whi?": "cancelled",
        "Why?": "pending",
        "c": "pending",
    }
    assert rows[2]["reason"] == "edited in the note"


def test_an_edit_is_seen_where_other_lines_have_come_and_the_kind_has_changed(queue, scan):
    scan(note("a", marker("Q", "later"), "c"))
    scan(note("new", "a", marker("?", "later"), "more", "c"))

    held, *_ = [j for j in jobs(queue) if j["payload"]["question"] == "later"]
    assert held["status"] == "cancelled"
    assert [j["status"] for j in jobs(queue)] == ["pending", "cancelled", "pending"] + [
        "pending"
    ] * 3


def test_an_edit_lets_a_job_that_runs_go_on(queue, runner, scan):
    scan(note("Whi?"))
    [run] = queue.claim(runner)
    scan(note("Why?"))

    assert queue.status(run) == "running"
    assert queue.beat(runner, run) == ["keep"]
    assert len(jobs(queue)) == 2


def test_a_line_that_goes_without_a_new_one_keeps_its_job(queue, scan):
    scan(note("a", "b"))
    assert actions(scan(note("b"))) == [("known", "b")]
    # Nor does a new one elsewhere in the note take its place.
    assert actions(scan(note("b", "c"))) == [("known", "b"), ("created", "c")]
    assert set(statuses(queue).values()) == {"pending"}
    assert actions(scan(note("a", "b"))) == [("known", "a"), ("known", "b")]


def test_an_editor_that_saves_between_deleting_and_typing_still_edits(queue, scan):
    scan(note("a", "b"))
    scan(note("b"))
    scan(note("A", "b"))

    assert statuses(queue) == {"a": "cancelled", "b": "pending", "A": "pending"}


def test_a_copy_that_is_behind_cancels_nothing(queue, scan):
    scan(note("a", "from the desk"))
    rows = scan(note("a", "from the laptop"), host="laptop")

    assert actions(rows) == [("known", "a"), ("created", "from the laptop")]
    assert set(statuses(queue).values()) == {"pending"}


def test_an_edit_taken_back_asks_nothing_a_third_time(queue, scan):
    for text in ("a", "b", "a", "b"):
        scan(note(text))

    assert len(jobs(queue)) == 2


# -- answered lines


def test_a_question_that_is_struck_through_when_first_seen_makes_no_job(queue, scan):
    assert actions(scan(note(struck("a")))) == [("answered", "a")]
    assert actions(scan(note(struck("a")))) == [("answered", "a")]
    assert jobs(queue) == []


def test_striking_out_cancels_a_job_that_has_not_started_and_no_other(queue, runner, scan):
    scan(note("a"))
    [run] = queue.claim(runner)
    scan(note("a", "b"))
    rows = scan(note(struck("a"), struck("b")))

    assert [r["reason"] for r in rows if r["action"] == "cancelled"] == ["answered in the note"]
    assert queue.status(run) == "running"
    assert statuses(queue) == {"a": "running", "b": "cancelled"}


@pytest.mark.parametrize("later", [["a"], [], [struck("a")], ["a", struck("a")]])
def test_of_equal_lines_striking_or_deleting_one_asks_nothing_again(queue, scan, later):
    scan(note("a", "a"))
    scan(note(struck("a"), "a"))
    scan(note(*later))
    scan(note("a", "a"))

    assert len(jobs(queue)) == 2


def test_a_question_asked_again_beside_its_answer_is_a_new_one(queue, scan):
    scan(note(struck("a"), "a"))
    scan(note(struck("a"), struck("a"), "a"))
    assert len(jobs(queue)) == 2

    scan(note("above it", "a", struck("a"), struck("a"), struck("a")))
    assert [job["payload"]["question"] for job in jobs(queue)] == ["a", "a", "above it", "a"]
    scan(note(struck("a"), "a"))
    scan(note("a"))
    assert len(jobs(queue)) == 4


# -- what a marker asks for


def test_a_deferred_question_is_held_and_released_by_hand(queue, runner, scan):
    [row] = scan(note(marker("Q", "later")))

    job = queue.job({"id": row["job_id"]})
    assert (job["status"], job["status_reason"]) == ("held", "deferred in the note")
    assert queue.claim(runner) == []
    queue.act("release_job", job)
    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


def test_kinds_become_job_types_with_the_default_agent(queue, scan):
    scan(note(marker("A", "tidy"), marker("M", "Standup"), marker("CB?", "how?")))

    task, meeting, code = jobs(queue)
    assert (task["job_type"], task["agent"]) == ("delegate", "assistant")
    assert task["payload"] == {"prompt": "tidy"}
    assert (meeting["job_type"], meeting["payload"]["title"]) == ("meeting_extract", "Standup")
    assert f'"Daily/{TODAY}.md"' in meeting["payload"]["text"]
    assert (code["job_type"], code["agent"]) == ("research", "engineer")
    assert code["payload"] == {"question": "how?"}


def test_a_code_path_is_a_working_directory_only_where_an_admin_has_said_so(queue, scan):
    queue.agent("app-reader", workdir="/src/app")
    queue.agent("lib-reader", workdir="/src/app/lib")
    queue.one("set_setting", name="note_code_paths",
              value={"/src/app/": "app-reader", "/src/app/lib": "lib-reader", "/gone": "nobody"})  # fmt: skip

    paths = ["/src/app", "/src/app/x", "/src/app/lib/y", "/src/apple", "/src/app/../..", "/gone"]
    scan(note(*(marker("CB?", "how?", code_path=path) for path in paths)))

    found = jobs(queue)
    assert [job["agent"] for job in found] == [
        "app-reader", "app-reader", "lib-reader", "engineer", "engineer", "engineer"]  # fmt: skip
    assert [job["payload"]["code_path"] for job in found] == paths
    assert all("cwd" not in job["payload"] for job in found)
    assert found[0]["payload"]["prompt"] == "\n\nThe question is about the code in /src/app"


def test_the_heading_above_leads_to_a_business(queue, scan):
    queue.one("set_setting", name="note_routes", value={"acme": "AcmeCorp"})
    scan(
        note(marker("?", "a", heading="acme"), marker("?", "b", heading="home"), "c"), business="Me"
    )

    assert [job["business"] for job in jobs(queue)] == ["AcmeCorp", "Me", "Me"]


def test_an_agent_of_the_admins_choice_does_what_a_marker_asks(queue, scan):
    queue.one("set_setting", name="note_agents", value={"?": "a", "A": "nobody"})
    scan(note("why?", marker("A", "do"), marker("CB?", "how?")))

    assert [job["agent"] for job in jobs(queue)] == ["a", "assistant", "researcher"]


def test_a_refused_line_keeps_no_other_out_and_is_tried_again(queue, scan):
    queue.one("set_setting", name="note_agents", value={"A": "shell"})
    queue.run("set local role persona_client")
    rows = scan(note(marker("A", "rm"), "why?"))
    queue.run("reset role")

    assert [row["action"] for row in rows] == ["refused", "created"]
    assert "only an admin" in rows[0]["reason"]
    queue.one("set_setting", name="note_agents", value={})
    assert [r["action"] for r in scan(note(marker("A", "rm"), "why?"))] == ["created", "known"]


# -- nobody is billed for a year of old question marks


def test_the_first_scan_of_a_vault_creates_only_what_is_confirmed(queue, scan):
    rows = scan(note("a"), confirmed=False)
    assert (actions(rows), rows[0]["reason"]) == (
        [("would_create", "a")], "the first scan of this vault")  # fmt: skip
    assert rows[0]["agent"] == "researcher"
    assert jobs(queue) == []
    assert actions(scan(note("a"), confirmed=False)) == [("would_create", "a")]

    scan(note("a"))
    assert actions(scan(note("a", "b"), confirmed=False)) == [("known", "a"), ("created", "b")]


def test_a_first_scan_that_finds_nothing_needs_no_confirmation(queue, scan):
    scan(note(), confirmed=False)
    assert actions(scan(note("a"), confirmed=False)) == [("created", "a")]


def test_a_scan_with_more_than_ten_new_lines_creates_only_what_is_confirmed(queue, scan):
    scan(note("x"))
    ten, eleven = [f"q{n}" for n in range(10)], [f"r{n}" for n in range(11)]

    rows = scan(note("x", *eleven), confirmed=False)
    assert {r["action"] for r in rows} == {"known", "would_create"}
    assert rows[1]["reason"] == "11 new ones, more than 10"
    assert len(jobs(queue)) == 1
    scan(note("x", *ten), confirmed=False)
    assert len(jobs(queue)) == 11
    scan(note("x", *ten, *eleven))
    assert len(jobs(queue)) == 22


def test_a_dry_run_changes_nothing(queue, scan):
    scan(note("a"))
    before = queue.rows("select * from persona.daily_note_state")
    rows = scan(note("b", struck("c")), dry_run=True)

    assert actions(rows) == [("would_create", "b"), ("answered", "c")]
    assert queue.rows("select * from persona.daily_note_state") == before
    assert queue.value("select count(*) from persona.note_markers") == 1


# -- arguments


GOOD = {"path": "x.md", "sha256": "0" * 64, "markers": []}


@pytest.mark.parametrize(
    "notes, match",
    [
        ([{**GOOD, "sha256": "x"}], "sha256"),
        ([{**GOOD, "path": ""}], "path"),
        ([{**GOOD, "markers": {"a": 1}}], "array of markers"),
        ([GOOD, GOOD], "once in a scan"),
        ([{**GOOD, "markers": [marker("X", "a", line=1)]}], "kind"),
        ([{**GOOD, "markers": [marker("?", " ", line=1)]}], "text"),
        ([{**GOOD, "markers": [marker("?", "x" * 10001, line=1)]}], "text"),
        ([{**GOOD, "markers": [marker("?", "a", line=0)]}], "line"),
        ([{**GOOD, "markers": [marker("?", "a", line="no")]}], "notes"),
        ({"path": "x"}, "array"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(queue, notes, match):
    with refused("PJ422", match), queue.conn.transaction():
        queue.call("intake_notes", vault="V", notes=notes, confirmed=True)
    with refused("PJ422", "vault"), queue.conn.transaction():
        queue.call("intake_notes", vault="", notes=[GOOD])
    assert queue.rows("select * from persona.daily_note_state") == []


# -- answers


@pytest.fixture
def answered(queue, runner, scan):
    """A line whose job has completed; returns the job."""
    scan(note("Why?"))
    [run] = queue.claim(runner)
    queue.report(runner, run, result={"text": "So."})
    return run


def take(queue, host="desk"):
    return queue.call("take_note_answers", vault="V", host=host)


def test_an_answer_is_given_to_one_machine_and_to_another_when_that_one_is_gone(queue, answered):
    [row] = take(queue)
    assert (row["short_id"], row["result"]) == (answered["short_id"], {"text": "So."})
    assert (row["folder"], row["file_name"]) == (
        "Resources/General/Embeds", f"{row['short_id']}-research")  # fmt: skip
    assert (row["question"], row["path"]) == ("Why?", f"Daily/{TODAY}.md")
    assert take(queue, "laptop") == []
    assert len(take(queue)) == 1

    queue.run("update persona.note_markers set answer_taken_at = now() - interval '6 min'")
    assert len(take(queue, "laptop")) == 1


def test_those_who_watch_a_vault_are_told_of_an_answer_and_of_nothing_else(
    connect, queue, runner, scan
):
    scan(note("Why?", "How?"))
    queue.listen("persona_notes")
    queue.create(priority=-1)
    for run, outcome in zip(
        queue.claim(runner, 3), ("completed", "failed", "completed"), strict=True
    ):
        queue.report(runner, run, outcome)

    assert queue.heard() == ["V"]


def test_an_answer_is_recorded_once(queue, answered):
    given = {"vault": "V", "job_id": answered["id"]}
    assert queue.one("record_note_answer", **given, answer_path="a.md")["record_note_answer"]
    assert not queue.one("record_note_answer", **given, answer_path="b.md")["record_note_answer"]

    assert take(queue) == []
    assert queue.value("select answer_path from persona.note_markers") == "a.md"


def test_a_meetings_answer_has_a_folder_of_its_own_and_a_failed_job_none(queue, runner, scan):
    scan(note(marker("M", "Standup"), "Why?"))
    for run in queue.claim(runner, 2):
        ok = run["job_type"] == "meeting_extract"
        queue.report(
            runner, run, "completed" if ok else "failed", failure_kind=None if ok else "auth"
        )

    [row] = take(queue)
    assert (row["folder"], row["question"]) == ("Meetings", "Standup")


def test_links_are_wanted_only_where_write_back_is_on(queue, answered, scan):
    queue.one("record_note_answer", vault="V", job_id=answered["id"], answer_path="a.md")
    assert queue.call("note_links", vault="V") == []
    assert len(queue.call("note_links", vault="V", write_back=True)) == 1
    queue.run("select persona.set_setting('note_write_back', 'true')")
    [link] = queue.call("note_links", vault="V")
    assert (link["line"], link["answer_path"]) == (1, "a.md")

    assert queue.one("record_note_link", vault="V", job_id=answered["id"])["record_note_link"]
    assert queue.call("note_links", vault="V") == []


def test_the_view_says_what_became_of_each_line(queue, answered, scan):
    scan(note("Why?", struck("b")))
    queue.one("record_note_answer", vault="V", job_id=answered["id"], answer_path="a.md")
    scan(note(struck("b")))

    rows = queue.rows("select * from persona.note_questions order by status desc")
    assert [(r["status"], r["is_gone"], r["answer_path"]) for r in rows] == [
        ("completed", True, "a.md"), ("answered", False, None)]  # fmt: skip
