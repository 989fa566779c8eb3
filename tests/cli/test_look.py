from __future__ import annotations

import json
import uuid
from datetime import timedelta

import psycopg
import pytest


@pytest.fixture
def jobs(create, queue, runner):
    """One job of each kind; returns their ids by name."""
    made = {"failed": create("fail", max_attempts=1)}
    runner.end(runner.claim(), "failed", exit_code=3, error="it broke\nbadly")
    made["completed"] = create("work")
    job = runner.claim()
    runner.log(job, "first")
    runner.log(job, "second", stream="stderr", level="error")
    runner.end(job, exit_code=0, result={"text": "the answer\nof two lines"}, cost_usd=0.25)
    made["running"] = create("run")
    runner.claim()
    made["pending"] = create("wait\nhere \x1b[2J and there", delay=timedelta(hours=1))
    made["held"] = create("hold")
    queue.hold_job(made["held"], "first ask")
    made["blocked"] = create("block", depends_on=[uuid.UUID(made["pending"])])
    made["cancelled"] = create("cancel")
    queue.cancel_job(made["cancelled"])
    return made


def test_status_counts_everything(cli, jobs):
    shown = cli("status").stdout

    assert "1 pending" in shown
    assert "1 running, 0 hung, 1 held, 1 blocked" in shown
    assert "1 completed, 1 failed, 1 cancelled" in shown
    assert "1 live, 1 of 10 places in use" in shown
    assert "$0.25 today" in shown
    assert f"running   {jobs['running'][-8:]}  assistant" in shown


def test_status_json_is_one_document(cli, jobs):
    document = json.loads(cli("status", "--json").stdout)

    assert {key: document[key] for key in ("pending", "running", "hung", "held", "blocked")} == {
        "pending": 1, "running": 1, "hung": 0, "held": 1, "blocked": 1,
    }  # fmt: skip
    assert (document["costToday"], document["unseenAlerts"]) == (0.25, 1)
    assert document["runners"] == {"live": 1, "capacity": 10, "lost": 0}


def test_status_says_when_nobody_would_run_the_jobs(cli):
    cli("create", "-t", "research", "-q", "?")
    assert "0 live, start one with: persona-worker" in cli("status").stdout


def test_jobs_lists_newest_first(cli, jobs):
    head, *lines = cli("jobs").stdout.splitlines()

    assert head.split() == [
        "id",
        "type",
        "status",
        "agent",
        "try",
        "took",
        "created",
        "note",
        "task",
    ]
    assert [line.split()[0] for line in lines] == [i[-8:] for i in reversed(jobs.values())]


@pytest.mark.parametrize(
    "status", ["failed", "completed", "running", "pending", "held", "blocked", "cancelled"]
)
def test_jobs_by_status(cli, jobs, status):
    found = json.loads(cli("jobs", "-s", status, "--json").stdout)
    assert [(job["id"], job["status"]) for job in found] == [(jobs[status], status)]


def test_jobs_by_agent_type_and_number(cli, jobs):
    other = cli("create", "-t", "research", "-q", "?").stdout.strip()

    assert [j["id"] for j in json.loads(cli("jobs", "-a", "researcher", "--json").stdout)] == [
        other
    ]
    assert [j["id"] for j in json.loads(cli("jobs", "-t", "research", "--json").stdout)] == [other]
    lines = cli("jobs", "-n", "3", "--jsonl").stdout.splitlines()
    assert next(json.loads(line)["id"] for line in lines) == other
    assert len(lines) == 3
    after = cli("jobs", "--before", jobs["completed"], "--jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in after] == [jobs["failed"]]


def test_jobs_s_hung_lists_running_jobs_without_a_lease(cli, jobs, superuser_dsn):
    assert cli("jobs", "-s", "hung").stderr == "no jobs\n"
    with psycopg.connect(superuser_dsn, autocommit=True) as conn:
        conn.execute("update persona.job_leases set expires_at = now() - interval '1 s'")

    found = cli("jobs", "-s", "hung")
    assert found.stdout.splitlines()[1].split()[:3] == [jobs["running"][-8:], "x", "hung"]
    assert json.loads(cli("jobs", "-s", "hung", "--json").stdout)[0]["hung"] is True
    assert "1 running, 1 hung" in cli("status").stdout


def test_a_job_cannot_paint_over_the_listing(cli, jobs):
    assert "\x1b" not in cli("jobs").stdout + cli("info", jobs["pending"]).stdout


def test_a_table_fits_the_terminal(terminal, jobs):
    for columns in (40, 60, 80, 120):
        _, shown = terminal("jobs", columns=columns)
        assert len(shown.splitlines()) == 1 + len(jobs)
        assert max(len(line) for line in shown.splitlines()) <= columns
        assert jobs["failed"][-8:] in shown


def test_colours_only_on_a_terminal_and_never_with_no_color(cli, terminal, jobs):
    coloured = {"NO_COLOR": ""}

    assert "\x1b[31mfailed" in terminal("jobs", env=coloured)[1]
    assert "\x1b" not in terminal("jobs", env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in cli("jobs", env=coloured).stdout
    assert "\x1b" not in terminal("jobs", "--json", env=coloured)[1]


def test_info_shows_everything(cli, jobs):
    shown = cli("info", jobs["completed"][-8:]).stdout

    for part in (
        jobs["completed"], "status       completed", "exit code    0", "agent        assistant",
        "attempt      1 of", "cost         $0.25", "prompt: work", "the answer\nof two lines",
        "played on testhost",
    ):  # fmt: skip
        assert part in shown
    assert "attempts\nnr  outcome" in shown


def test_info_of_a_failed_job_names_the_error(cli, jobs):
    shown = cli("info", jobs["failed"]).stdout
    assert "error        it broke badly [unknown]" in shown
    assert "exit code    3" in shown


def test_info_of_a_waiting_job_says_why(cli, jobs):
    assert "waiting      waits until" in cli("info", jobs["pending"]).stdout
    assert "waiting      held: first ask" in cli("info", jobs["held"]).stdout


def test_info_json_has_the_attempts(cli, jobs):
    document = json.loads(cli("info", jobs["failed"], "--json").stdout)

    assert (document["exitCode"], document["failureKind"]) == (3, "unknown")
    [attempt] = document["attempts"]
    assert (attempt["outcome"], attempt["exitCode"], attempt["runnerName"]) == (
        "failed",
        3,
        "played",
    )


def test_explain_is_one_line(cli, jobs):
    assert cli("explain", jobs["held"]).stdout.startswith("held: first ask")
    assert cli("explain", jobs["blocked"]).stdout.startswith("waits for 1 job(s)")
    document = json.loads(cli("explain", jobs["held"], "--json").stdout)
    assert document["id"] == jobs["held"]


def test_tree_draws_what_was_delegated(cli, create):
    root = create("root")
    left, right = (create(side, parent_job_id=uuid.UUID(root)) for side in ("left", "right"))
    below = create("below", parent_job_id=uuid.UUID(left))

    assert cli("tree", root).stdout.splitlines() == [
        f"{root[-8:]}  pending  assistant  x  root",
        f"├─ {left[-8:]}  pending  assistant  x  left",
        f"│  └─ {below[-8:]}  pending  assistant  x  below",
        f"└─ {right[-8:]}  pending  assistant  x  right",
    ]
    nodes = json.loads(cli("tree", root, "--json").stdout)
    assert [node["depth"] for node in nodes] == [0, 1, 2, 1]


def test_stats_by_type_day_and_hour(cli, jobs):
    head, line = cli("stats").stdout.splitlines()
    assert head.split()[:3] == ["type", "total", "completed"]
    assert line.split()[:6] == ["x", "7", "1", "1", "1", "50"]
    assert json.loads(cli("stats", "--json").stdout)[0]["successRate"] == 0.5
    assert "$0.25" in cli("stats", "--by-day").stdout
    assert json.loads(cli("stats", "--by-hour", "--jsonl").stdout)["created"] == 7


# -- logs


def test_logs_print_all_streams_in_order(cli, jobs):
    assert cli("logs", jobs["completed"]).stdout == "first\nsecond\n"
    assert cli("logs", jobs["completed"], "--tail", "1").stdout == "second\n"
    assert cli("logs", jobs["completed"], "--tail", "0").stdout == ""
    assert cli("logs", jobs["completed"], "--stream", "stdout").stdout == "first\n"
    assert cli("logs", jobs["completed"], "-t").stdout.splitlines()[0].endswith(" first")


def test_logs_as_json(cli, jobs):
    lines = json.loads(cli("logs", jobs["completed"], "--json").stdout)
    assert [(line["stream"], line["level"], line["message"]) for line in lines] == [
        ("stdout", "info", "first"),
        ("stderr", "error", "second"),
    ]
    more = cli("logs", jobs["completed"], "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in more] == lines


def test_logs_of_a_job_that_has_not_started_exit_0(cli, jobs):
    for options in ([], ["--tail", "5"]):
        done = cli("logs", jobs["pending"], *options)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.count("\n") == 1
        assert "has not started" in done.stderr


def test_logs_join_the_pieces_of_a_long_line(create, cli, runner):
    made = create("?")
    job = runner.claim()
    for piece in ("aaa", "bbb"):
        runner.log(job, piece, metadata={"part": True})
    runner.log(job, "ccc")

    assert cli("logs", made).stdout == "aaabbbccc\n"


def test_a_log_of_many_pages_is_complete(create, cli, conn, runner):
    made = create("?")
    job = runner.claim()
    conn.execute(
        "select persona.append_logs(%s, (select jsonb_agg(jsonb_build_object('job_id', %s::text,"
        " 'lease', %s::bigint, 'seq', n, 'stream', 'stdout', 'message', n::text))"
        " from generate_series(1, 3456) as n))",
        (runner.id, str(job[0]), job[1]),
    )

    assert cli("logs", made).stdout.split() == [str(n) for n in range(1, 3457)]


def test_logs_on_a_terminal_are_harmless(create, terminal, runner, cli):
    made = create("?")
    runner.log(runner.claim(), "\x1b[2J\x1b[31mred\x1b]0;title\x07\ttab")

    assert terminal("logs", made)[1] == "\\x1b[2Jred\\x1b]0;title\\x07\ttab\n"
    assert cli("logs", made).stdout == "\x1b[2J\x1b[31mred\x1b]0;title\x07\ttab\n"


def test_logs_f_follow_until_the_job_has_ended(create, cli, popen, runner):
    made = create("?")
    job = runner.claim()
    runner.log(job, "before")
    following = popen("logs", "-f", made)
    assert following.stdout.readline() == "before\n"
    runner.log(job, "live")
    assert following.stdout.readline() == "live\n"
    runner.log(job, "last")
    runner.end(job)

    assert following.communicate(timeout=10) == ("last\n", "")
    assert following.returncode == 0
    assert cli("logs", "-f", made).stdout == "before\nlive\nlast\n"


def test_logs_f_tail_starts_at_the_end(create, cli, popen, runner):
    made = create("?")
    job = runner.claim()
    for word in ("one", "two", "three"):
        runner.log(job, word)
    following = popen("logs", "-f", "--tail", "1", made)
    assert following.stdout.readline() == "three\n"
    runner.log(job, "four")
    runner.end(job)
    assert following.communicate(timeout=10)[0] == "four\n"
