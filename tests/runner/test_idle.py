"""An idle runner costs next to nothing: S10 of the bars, in a few seconds."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def watched(proxy, sent, worker, ready):
    """A worker without a net, and how many statements it has sent."""
    one = ready(worker(env={"WORKER_POLL_INTERVAL": "never", "PERSONA_DATABASE_URL": proxy.dsn}))
    return one, sent


def switches(pid):
    """How often it has been woken."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if "_ctxt_switches" in line)


def test_an_idle_runner_sleeps(watched, conn, runner_pid):
    one, sent = watched
    time.sleep(2)
    runner, guardian = psutil.Process(runner_pid(one)), psutil.Process(one.pid)
    cpu, woken, before = sum(runner.cpu_times()[:2]), switches(runner.pid), len(sent)
    time.sleep(10)
    assert len(sent) - before == 0
    assert sum(runner.cpu_times()[:2]) - cpu <= 0.02
    assert switches(runner.pid) - woken < 20
    assert sum(guardian.cpu_times()[:2]) < 1
    assert len(conn.execute(
        "select from pg_stat_activity where application_name like 'persona-worker%'"
        " and datname = current_database()"
    ).fetchall()) == 1  # fmt: skip


def test_a_quiet_job_costs_its_runner_nothing_but_heartbeats(watched, jobs, runner_pid):
    one, sent = watched
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    time.sleep(3)
    pid = runner_pid(one)
    cpu, woken, before = sum(psutil.Process(pid).cpu_times()[:2]), switches(pid), len(sent)
    time.sleep(6)
    assert len(sent) - before <= 1
    assert sum(psutil.Process(pid).cpu_times()[:2]) - cpu <= 0.05
    assert switches(pid) - woken < 40
    jobs.cancel(job, force=True)
    jobs.end(job)


def test_an_ended_runner_that_still_drains_does_not_spin(worker, jobs, ready, runner_pid):
    """Told to end at once while a job takes its whole grace to end."""
    import signal

    one = ready(worker(env={"JOB_KILL_GRACE": "4s"}))
    job = jobs.sh("trap '' TERM; echo begun; sleep 60; sleep 60")
    jobs.first_line(job)
    pid = runner_pid(one)
    for _ in range(2):
        one.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    cpu = sum(psutil.Process(pid).cpu_times()[:2])
    time.sleep(2)
    assert sum(psutil.Process(pid).cpu_times()[:2]) - cpu < 0.5
    began = time.monotonic()
    assert one.wait() == 0
    assert time.monotonic() - began < 5
    assert jobs.row(job).status == "pending"


def test_with_the_database_away_it_does_not_spin_either(worker, proxy, ready, runner_pid, jobs):
    one = ready(worker(env={"PERSONA_DATABASE_URL": proxy.dsn}))
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    proxy.is_refusing = True
    proxy.cut()
    pid = runner_pid(one)
    cpu = sum(psutil.Process(pid).cpu_times()[:2])
    time.sleep(5)
    assert sum(psutil.Process(pid).cpu_times()[:2]) - cpu < 0.7
    assert one.output().count("next try") < 40
    proxy.is_refusing = False
    jobs.cancel(job, force=True)
    jobs.end(job)
