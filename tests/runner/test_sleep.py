"""The whole service stands still past its leases, as with a closed lid, and then goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pgtest
import psutil
import pytest

LEASE = 4.0
SHORT = {
    "JOB_HUNG_TIMEOUT": f"{LEASE}s",
    "JOB_HEARTBEAT_INTERVAL": "500ms",
    "JOB_KILL_GRACE": "500ms",
}


@pytest.fixture
def sleeper(worker, jobs, ready, tmp_path):
    """A runner with a job that ends once the file is there, and all processes of both."""
    one = ready(worker("--name", "laptop", env=SHORT))
    flag = tmp_path / "go on"
    job = jobs.sh(f"echo $$; while [ ! -e '{flag}' ]; do sleep 0.05; done; echo done")
    leader = int(jobs.first_line(job))
    family = psutil.Process(one.pid).children(recursive=True)
    pids = [one.pid, *(p.pid for p in family if name_of(p) not in ("sleep", None))]
    assert leader in pids
    return one, job, pids, flag


def name_of(process):
    with contextlib.suppress(psutil.NoSuchProcess):  # a `sleep` that is over
        return process.name()
    return None


def send(number, pids):
    for pid in pids:
        os.kill(pid, number)


def stand_still_past_the_lease(pids):
    # The guardian first and last: it must not see its runner stopped alone.
    send(signal.SIGSTOP, pids)
    time.sleep(LEASE + 1)


def test_a_runner_that_slept_alone_goes_on_with_its_job(sleeper, jobs, conn):
    one, job, pids, flag = sleeper
    stand_still_past_the_lease(pids)
    late = "select expires_at < now() from persona.job_leases"
    assert conn.execute(late).fetchone()[0]

    send(signal.SIGCONT, pids)
    pgtest.eventually(lambda: not conn.execute(late).fetchone()[0], 10, what=one.output)
    flag.touch()

    row = jobs.end(job, timeout=10)
    assert (row.status, row.attempt, row.interruptions) == ("completed", 1, 0)
    assert jobs.lines(job)[-1] == "done"
    assert "nobody took it" in " ".join(jobs.lines(job, "system"))


def test_a_runner_that_slept_beside_another_one_kills_its_job(sleeper, jobs, worker, ready, conn):
    one, job, pids, flag = sleeper
    send(signal.SIGSTOP, pids)
    ready(worker("--name", "desktop", env=SHORT))
    again = pgtest.eventually(lambda: jobs.lines(job)[1:], 20, what=lambda: jobs.row(job))

    send(signal.SIGCONT, pids)
    pgtest.eventually(lambda: not psutil.pid_exists(pids[-1]), 10, what=one.output)
    assert again
    flag.touch()

    row = jobs.end(job, timeout=10)
    assert (row.status, row.attempt, row.interruptions) == ("completed", 1, 1)
    outcomes = "select outcome from persona.job_attempts where job_id = %s order by lease"
    assert [o for (o,) in conn.execute(outcomes, (job,))] == ["orphaned", "completed"]
