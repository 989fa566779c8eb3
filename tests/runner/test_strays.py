"""P5: nothing outlives its job, however it hides; and P2 when the runner itself is killed."""

# ruff: noqa: PLR0917 - fixtures are arguments
from __future__ import annotations

import os
import signal
import time

import pytest


@pytest.fixture
def hiding(worker, jobs, stubborn):
    """A running job with a stray in another session: (job, pids of all of it)."""

    def start(*arguments, end="exec sleep 1000", env=None, **options):
        one = worker(*arguments, env={"JOB_KILL_GRACE": "300ms"} | (env or {}))
        job = jobs.sh(f"echo $$; {stubborn}\n sleep 0.3; {end}", **options)
        stray = int(jobs.first_line(job, "stderr"))
        return one, job, [int(jobs.first_line(job)), stray]

    return start


def gone(pids, alive, within=1.0):
    deadline = time.monotonic() + within
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_after_a_kill_nothing_of_it_is_alive(hiding, jobs, cli, alive):
    _, job, pids = hiding()
    assert cli("kill", job, "--wait").returncode == 0
    assert jobs.row(job).status == "cancelled"
    assert gone(pids, alive, 0.0)


def test_after_a_timeout_nothing_of_it_is_alive(hiding, jobs, alive):
    _, job, pids = hiding(timeout="1500 ms", max_attempts=1)
    assert jobs.end(job).failure_kind == "timeout"
    assert gone(pids, alive, 0.0)


def test_after_the_regular_end_nothing_of_it_is_alive_and_it_is_told(hiding, jobs, alive):
    _, job, pids = hiding(end="exit 0")
    assert jobs.end(job).status == "completed"
    assert gone(pids, alive, 0.0)
    assert any("left behind" in line for line in jobs.lines(job, "system"))


def test_sigkill_of_the_runner_ends_its_processes_within_a_second(
    hiding, worker, jobs, alive, runner_pid, eventually
):
    one, job, pids = hiding()
    os.kill(runner_pid(one), signal.SIGKILL)
    began = time.monotonic()
    assert gone(pids, alive, 5.0)
    assert time.monotonic() - began < 1.0
    assert one.wait() == 137

    worker()
    attempts = eventually(lambda: jobs.attempts(job))
    row = jobs.running(job)
    assert [(a.outcome, a.is_counted) for a in attempts] == [("orphaned", False)]
    assert (row.attempt, row.interruptions) == (1, 1)
    jobs.cancel(job, force=True)
    jobs.end(job)


def test_a_restarted_runner_goes_on_at_once_and_executions_never_overlap(
    worker, jobs, runner_pid, history, ready
):
    one = worker()
    job = jobs.sh(history.script(1.5))
    while not history.count("begin", job):
        time.sleep(0.01)
    os.kill(runner_pid(one), signal.SIGKILL)
    killed = time.monotonic()
    one.wait()
    worker()
    row = jobs.end(job)
    assert row.status == "completed"
    assert (history.count("begin", job), history.count("end", job)) == (2, 1)
    assert history.count("overlap") == 0
    assert time.monotonic() - killed < 15
    outcomes = [(a.outcome, a.is_counted, a.attempt) for a in jobs.attempts(job)]
    assert outcomes == [("orphaned", False, 1), ("completed", True, 1)]


def test_runner_and_guardian_killed_together_the_next_start_kills_what_is_left(
    hiding, worker, jobs, alive, runner_pid, ready, eventually
):
    one, job, pids = hiding()
    runner = runner_pid(one)
    os.kill(one.pid, signal.SIGSTOP)  # so that it cannot act in between
    os.kill(runner, signal.SIGKILL)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    assert all(alive(pid) for pid in pids)
    two = ready(worker())
    assert gone(pids, alive, 0.0)
    assert "that the last runner left behind" in two.output()
    jobs.until(job, "running", timeout=10)
    jobs.cancel(job, force=True)
    jobs.end(job)


def test_sigkill_of_the_guardian_costs_nothing(worker, jobs, eventually, runner_pid, ready, alive):
    one = ready(worker())
    job = jobs.sh("echo $$; sleep 3; echo end")
    leader = jobs.first_line(job)
    runner = runner_pid(one)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    eventually(lambda: "the guardian died" in one.output())
    assert jobs.end(job).status == "completed"
    assert jobs.lines(job) == [leader, "end"]
    assert alive(runner)
    os.kill(runner, signal.SIGTERM)
    eventually(lambda: not alive(runner), 20)


def test_a_stopped_runners_job_dies_at_its_deadline_and_is_not_reported_twice(
    worker, jobs, short, runner_pid, alive, eventually, ready
):
    one = ready(worker(env=short))
    job = jobs.sh("echo $$; exec sleep 1000")
    leader = int(jobs.first_line(job))
    runner = runner_pid(one)
    os.kill(runner, signal.SIGSTOP)
    began = time.monotonic()
    eventually(lambda: not alive(leader), 10)
    assert time.monotonic() - began < 4.2
    other = ready(worker("--name", "other", env=short))
    jobs.until(job, "running", timeout=15)
    os.kill(runner, signal.SIGCONT)
    eventually(lambda: len(jobs.attempts(job)) == 1)
    time.sleep(1)
    row = jobs.row(job)
    assert row.status == "running"
    assert [(a.outcome, a.is_counted) for a in jobs.attempts(job)] == [("orphaned", False)]
    assert other.process.poll() is None
    jobs.cancel(job, force=True)
    jobs.end(job)
