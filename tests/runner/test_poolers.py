"""A runner behind pgbouncer: refused where it would be deaf, at home where it is not."""

from __future__ import annotations

import poolertest
import pytest
from pgtest import eventually


@pytest.fixture
def new_pooler(databases):
    made = []

    def start(mode):
        made.append(poolertest.start(databases.where, mode))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_runner_refuses_a_pooler_in_transaction_mode_and_says_what_to_do(worker, pooler, dsn):
    process = worker("--once", env={"PERSONA_DATABASE_URL": pooler("transaction").dsn(dsn)})
    assert process.wait() == 78
    (line,) = process.output().splitlines()
    assert line.startswith("persona-worker: PERSONA_DATABASE_URL: at ")
    assert "pool_mode = session" in line


def test_a_runner_behind_a_pooler_in_session_mode_is_woken(worker, pooler, dsn, jobs, ready):
    through = pooler("session").dsn(dsn)
    # Without the net: only a notification can tell it of the second job.
    ready(worker(env={"PERSONA_DATABASE_URL": through, "WORKER_POLL_INTERVAL": "never"}))
    for _ in range(2):
        assert jobs.end(jobs.sh("exit 0")).status == "completed"


def test_a_runner_whose_pooler_changed_its_mode_waits_and_keeps_its_job(
    worker, new_pooler, dsn, jobs, ready
):
    way = new_pooler("session")
    process = ready(worker(env={"PERSONA_DATABASE_URL": way.dsn(dsn)}))
    job = jobs.sh("sleep 1000")
    jobs.running(job)
    way.restart("transaction")
    eventually(lambda: "lends connections for one transaction" in process.output())
    way.restart("session")
    eventually(lambda: "connected to the database again" in process.output())
    jobs.cancel(job)
    assert jobs.end(job).status == "cancelled"
    assert len(jobs.attempts(job)) == 1
