"""persona monitor: one snapshot, the live screen, the feed, the status file."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time

import pytest
from pgtest import IS_TOLD, eventually


@pytest.fixture
def watching(conn):
    """Wait until so many programs watch everything, each of them for sure."""

    def wait(count=1):
        if not IS_TOLD:
            return  # nobody is registered: they ask twice a second
        eventually(
            lambda: conn.execute("select count(*) from persona.watchers").fetchone()[0] == count
        )

    return wait


@pytest.fixture
def live(persona, persona_env):
    """Start the monitor on a terminal; returns (process, terminal)."""
    started = []

    def start(*arguments):
        main, side = pty.openpty()
        started.append(
            subprocess.Popen(
                [persona, "monitor", *arguments],
                stdin=side, stdout=side, stderr=side, start_new_session=True,
                env=persona_env | {"TERM": "xterm"},
            )
        )  # fmt: skip
        os.close(side)
        return started[-1], main

    yield start

    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(terminal, text, shown=b""):
    while text.encode() not in shown:
        shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def test_one_snapshot_as_json_and_as_text(popen, create, runner):
    create()
    runner.claim()
    create()
    out, err = popen("monitor", "--once", "--json").communicate()
    found = json.loads(out)
    assert (found["summary"]["pending"], found["summary"]["running"], err) == (1, 1, "")
    assert found["running"][0]["runner"] == "played"
    assert sum(found["completedByMinute"]) == 0
    assert found["pendingByMinute"][-1] == 1
    text, _ = popen("monitor").communicate()
    assert "1 pending, 1 running" in text
    assert "\x1b" not in text


def test_the_plots_of_the_dashboard_are_shown_as_text(popen, create, runner, queue):
    queue.set_budget("all", 10, period="day")
    for outcome in ("completed", "failed"):
        create(max_attempts=1)
        runner.end(
            runner.claim(),
            outcome,
            cost_usd=0.25,
            failure_kind=None,
            error="\x1b[31mno\x1b[0m luck",
        )
    create()
    text, err = popen("monitor", "--plots", "1h").communicate()
    shown = {line.split()[0]: line for line in text.splitlines() if line}
    assert err == ""
    assert shown["completed"].endswith("█ 1")
    assert shown["pending"].endswith("1 now, 1 at most")
    assert " 0 of 10 " in shown["played"]
    assert shown["unknown"].endswith("no luck")
    assert "$0.50 of $10.00 a day" in shown["all"]
    assert "█  $0.50" in text
    assert "|" in shown["x"]


def test_the_screen_follows_changes_and_goes_with_q(live, create, watching):
    process, terminal = live()
    until(terminal, "0 pending")
    watching()
    create()
    until(terminal, "1 pending")
    process.send_signal(signal.SIGWINCH)
    until(terminal, "1 pending")
    os.write(terminal, b"q")
    until(terminal, "\x1b[?25h\x1b[?1049l")
    assert process.wait(10) == 0
    watching(0)


def test_the_plots_follow_changes_too(live, create, watching):
    process, terminal = live("--plots", "1h")
    shown = until(terminal, "0 now").encode()
    watching()
    create()
    shown = until(terminal, "1 now, 1 at most", shown)
    assert "created" in shown
    os.write(terminal, b"q")
    assert process.wait(10) == 0


def test_the_screen_lives_through_a_lost_connection(live, create, conn, watching):
    process, terminal = live()
    until(terminal, "0 pending")
    watching()
    conn.execute(
        "select pg_terminate_backend(a.pid) from pg_stat_activity as a"
        " where a.datname = current_database() and a.application_name = 'persona'"
    )
    create()
    until(terminal, "1 pending")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_the_feed_loses_and_repeats_nothing_when_its_connections_are_cut(
    popen, conn, create, watching
):
    first = popen("monitor", "--jsonl", "--after", "0", bufsize=1)
    made = []
    for _ in range(4):
        made += [create() for _ in range(5)]
        conn.execute(
            "select pg_terminate_backend(a.pid) from pg_stat_activity as a"
            " where a.datname = current_database() and a.application_name = 'persona'"
        )
    lines = [json.loads(first.stdout.readline()) for _ in range(20)]
    assert [line["jobId"] for line in lines] == made

    again = popen("monitor", "--jsonl", "--after", lines[9]["cursor"])
    assert [json.loads(again.stdout.readline()) for _ in range(10)] == lines[10:]


def test_the_feed_chooses_a_job_and_a_type(popen, create, queue):
    other, mine = create(), create()
    for job in (other, mine):
        queue.cancel_job(job, "x")
    feed = popen("monitor", "--jsonl", "--after", "0", "--job", mine, "--type", "job.cancelled")
    assert json.loads(feed.stdout.readline())["jobId"] == mine


def test_the_status_file_has_the_keys_of_the_first_system_and_one_writer(
    popen, create, tmp_path, runner
):
    path = tmp_path / "status" / "progress.json"
    path.parent.mkdir()
    create("what is a lease?")
    runner.claim()
    first = popen("monitor", "--status-file", str(path))
    found = eventually(lambda: read(path))
    wanted = {
        "agent": "assistant", "action": "x", "status": "running", "ended": None,
        "questions_total": 1, "questions_completed": 0, "current_activity": "what is a lease?",
    }  # fmt: skip
    assert {key: found[key] for key in wanted} == wanted
    assert None not in (found["started"], found["last_updated"])
    assert found["summary"]["running"] == 1

    second = popen("monitor", "--status-file", str(path))
    assert "another persona-monitor" in second.communicate()[1]
    assert second.returncode == 75
    first.terminate()
    assert first.wait(10) == 0
    assert {p.name for p in path.parent.iterdir()} == {".progress.json.lock", path.name}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json",),
        ("--jsonl", "--once"),
        ("--after", "0"),
        ("--job", "x"),
        ("--plots", "1h", "--jsonl"),
        ("--plots", "1h", "--once", "--json"),
    ],
)
def test_modes_that_do_not_go_together_are_refused(popen, arguments):
    process = popen("monitor", *arguments)
    assert process.wait() == 2


def test_a_bar_shows_only_on_a_terminal(terminal, popen, create, play, told):
    def end_two(runner):
        there = "select exists (select from persona.watchers)"
        eventually(lambda: runner.conn.execute(there).fetchone()[0])
        for _ in range(2):
            runner.end(runner.claim())

    jobs = [create(), create()]
    play(end_two)
    code, shown = terminal("wait", *jobs)
    assert code == 0
    assert "waiting  [" in shown
    assert "2 of 2" not in shown.split("\n")[-1]

    _, err = popen("wait", *jobs).communicate()
    assert "[" not in err
    code, shown = terminal("wait", create(), "--json", "--timeout", "0.2s")
    assert "waiting" not in shown


def test_time_left_is_shown_on_the_screen(popen, create, runner, conn):
    create()
    job = runner.claim()
    beat = [{"job_id": str(job[0]), "lease": job[1], "progress": 50, "progress_text": "half"}]
    conn.execute("select persona.heartbeats(%s, %s)", (runner.id, json.dumps(beat)))
    conn.execute("update persona.jobs set started_at = now() - interval '1 min'")
    text, _ = popen("monitor", "--once").communicate()
    [line] = [line for line in text.split("\n") if line.startswith("running  ")]
    assert "[#####-----]  50 %" in line
    assert "left" in line
    assert "half" in line


def test_time_is_not_spent_on_polling(popen, conn, watching, told, tmp_path):
    """An idle monitor asks the database nothing."""
    path = tmp_path / "s.json"
    popen("monitor", "--status-file", str(path))
    watching()
    asked = (
        "select max(a.query_start) from pg_stat_activity as a"
        " where a.datname = current_database() and a.application_name = 'persona'"
    )

    def is_quiet():
        before = conn.execute(asked).fetchone()
        revision = read(path).get("revision")
        time.sleep(0.6)
        return revision and conn.execute(asked).fetchone() == before

    eventually(is_quiet)
