# ruff: noqa: PLR0917 - fixtures are arguments
"""What an outage kept from the database survives the runner too, and a full disk costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat

import pytest

from persona_pg.runner import spool
from persona_pg.runner.outbox import LogWriter, Outbox

NAME = "here"


@pytest.fixture
def path(home, proxy):
    return spool.path_for(home, NAME, proxy.dsn)


@pytest.fixture
def start(worker, proxy, ready):
    """Start the runner, which reaches its database through the proxy."""

    def go(**env):
        return ready(worker("--name", NAME, env={"PERSONA_DATABASE_URL": proxy.dsn, **env}))

    return go


@pytest.fixture
def ended_in_an_outage(start, proxy, jobs, path, eventually, tmp_path, runner_pid):
    """A runner with the result of a job that it could not deliver, on disk."""
    begun = tmp_path / "begun"
    one = start()
    job = jobs.sh(f"echo x >> {begun}; sleep 0.5; seq 1 3; exit 3", max_attempts=1)
    eventually(begun.exists)
    cut_off(proxy)
    eventually(lambda: path.exists() and '"report"' in path.read_text(), what=one.output)

    def kill():
        for pid in (one.pid, runner_pid(one)):
            os.kill(pid, signal.SIGKILL)
        one.wait()

    one.kill = kill
    return one, job, lambda: len(begun.read_text().split())


def cut_off(proxy):
    proxy.is_refusing = True
    proxy.cut()


def take_away(conn, job):
    """Let the lease run out and be noticed."""
    conn.execute("update persona.job_leases set expires_at = now() - interval '1 s'")
    assert conn.execute("select id::text from persona.recover_hung_jobs()").fetchall() == [(job,)]


def test_a_result_survives_the_runner_that_could_not_deliver_it(
    ended_in_an_outage, start, proxy, jobs, path, eventually
):
    one, job, executions = ended_in_an_outage
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    one.kill()
    proxy.is_refusing = False
    start()
    row = jobs.end(job)
    assert (row.status, row.exit_code, row.interruptions) == ("failed", 3, 0)
    assert (len(jobs.attempts(job)), executions()) == (1, 1)
    assert jobs.lines(job) == ["1", "2", "3"]
    eventually(lambda: not path.exists())


def test_p3_what_a_dead_runner_left_too_late_is_put_aside(
    ended_in_an_outage, start, proxy, jobs, conn
):
    one, job, executions = ended_in_an_outage
    one.kill()
    take_away(conn, job)
    proxy.is_refusing = False
    start()
    row = jobs.end(job)
    assert (row.status, row.interruptions, executions()) == ("failed", 1, 2)
    first, second = jobs.attempts(job)
    assert (first.outcome, first.stale_result["exit_code"]) == ("orphaned", 3)
    assert (second.outcome, second.stale_result) == ("failed", None)


def test_p3_a_late_result_of_a_runner_that_was_given_up_is_put_aside(
    ended_in_an_outage, proxy, jobs, conn, path, eventually
):
    one, job, executions = ended_in_an_outage
    take_away(conn, job)
    conn.execute("update persona.runners set ended_at = now(), ended_reason = 'lost'")
    proxy.is_refusing = False
    row = jobs.end(job)
    assert (row.status, row.interruptions, executions()) == ("failed", 1, 2)
    assert jobs.attempts(job)[0].stale_result["exit_code"] == 3
    assert one.output().count("is ready") == 2
    eventually(lambda: not path.exists())


def test_a_full_disk_under_the_spool_is_told_once_and_costs_nothing(
    start, proxy, jobs, path, eventually
):
    path.parent.mkdir(parents=True)
    path.with_suffix(".new").symlink_to("/dev/full")
    one = start()
    job = jobs.sh("for i in 1 2 3 4 5 6 7; do echo $i; sleep 0.7; done", max_attempts=1)
    jobs.first_line(job)
    cut_off(proxy)
    eventually(lambda: "No space left" in one.output(), what=one.output)
    eventually(lambda: one.output().count("next try") > 5, 30)
    proxy.is_refusing = False
    row = jobs.end(job)
    assert (row.status, row.interruptions, len(jobs.attempts(job))) == ("completed", 0, 1)
    assert jobs.lines(job) == list("1234567")
    assert one.output().count("No space left") == 1
    assert not path.exists()


class Loop:
    """No time passes here."""

    def time(self):
        return 0.0


def spool_of(path, *outboxes):
    return spool.Spool(Loop(), path, lambda: list(outboxes))


def test_what_is_read_is_what_was_written_but_for_what_nobody_can_read(tmp_path):
    path = tmp_path / "spool" / "a.jsonl"
    first, second = Outbox(on_line=lambda: None), Outbox(on_line=lambda: None)
    a, b = LogWriter(first, "a", 1), LogWriter(second, "b", 2)
    a.write("stdout", "info", 'line "one"\n')
    first.add_report(a, {"job_id": "a", "lease": 1, "outcome": "completed", "result": {"x": "\0"}})
    b.write("stderr", "warn", "two")
    asyncio.run(spool_of(path, ("r1", first), ("r2", second)).close())
    with path.open("a") as stream:
        stream.write('{"report": {"job_id": "c", "le')  # killed while it wrote

    (r1, one), (r2, two) = spool_of(path).read()
    assert (r1, r2) == ("r1", "r2")
    assert one.next_lines() == first.next_lines()
    assert json.loads(one.next_reports(1)) == json.loads(first.next_reports(1))
    assert two.next_lines() == second.next_lines()
    asyncio.run(spool_of(path, ("r1", Outbox(on_line=lambda: None))).close())


def test_a_spool_has_a_bound_and_results_come_before_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_BYTES_AT_MOST", 1000)
    outbox = Outbox(on_line=lambda: None)
    writer = LogWriter(outbox, "a", 1)
    for number in range(100):
        writer.write("stdout", "info", f"line {number}")
    outbox.add_report(writer, {"job_id": "a", "lease": 1, "outcome": "completed"})
    path = tmp_path / "a.jsonl"
    asyncio.run(spool_of(path, ("r", outbox)).close())
    assert path.stat().st_size < 1500
    [(_, left)] = spool_of(path).read()
    assert left.has_reports
    assert 1 < left.next_lines()[0] < 20
