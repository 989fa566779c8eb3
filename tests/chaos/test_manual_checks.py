"""The five manual checks of the hardening requirements, under their names, automated.

The plugin is played by a program of its own that does what the plugin does: it creates a job and
watches it. Reloading it means: that program is killed, and started again with the same call.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pgtest
import psycopg
import pytest
from chaos.world import new_world

from persona_pg.database import Database
from persona_pg.errors import DatabaseUnreachable, UpdateConflictError
from persona_pg.queue import Queue

pytestmark = pytest.mark.timeout(90)

PLUGIN = """
import sys, time
from persona_pg.queue import Queue
with Queue.connect(sys.argv[1]) as queue:
    payload = {"args": ["plain", sys.argv[2], "5"]}
    job = queue.create_job("chaos", payload, agent="chaos", dedupe_key="note-2026-02-01#12")
    print(job.id, flush=True)
    while (job := queue.get_job(job.id)).status not in ("completed", "failed", "cancelled"):
        time.sleep(0.05)
    print(job.status, flush=True)
"""


@pytest.fixture(scope="module")
def world():
    with new_world() as made:
        yield made


@pytest.fixture
def runner(world):
    return world.runner("a")


@pytest.fixture
def plugin(world):
    """Start the plugin; returns its process, whose first line is the job's id."""
    started = []

    def start(seconds=1.5):
        process = subprocess.Popen(
            [sys.executable, "-c", PLUGIN, world.dsn, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(pgtest.ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def executions(world, job_id):
    return world.history.executions([job_id])[job_id]


def test_reload_plugin_during_agent_execution(world, runner, plugin):
    first = plugin()
    job_id = first.stdout.readline().strip()
    pgtest.eventually(lambda: world.history.alive([job_id]), what="the agent runs")

    first.terminate()
    first.wait(10)
    again = plugin()

    assert again.stdout.readline().strip() == job_id
    assert again.stdout.readline().strip() == "completed"
    assert len(executions(world, job_id)) == 1
    assert world.check([job_id]) == []


def test_kill_obsidian_during_agent_execution(world, runner, plugin):
    application = plugin()
    job_id = application.stdout.readline().strip()
    [execution] = pgtest.eventually(lambda: world.history.alive([job_id]), what="the agent runs")

    os.killpg(application.pid, signal.SIGKILL)
    application.wait(10)

    assert execution.is_alive
    assert world.wait_ended([job_id], 20) == []
    assert world.states([job_id]) == {job_id: "completed"}
    assert len(executions(world, job_id)) == 1
    assert world.check([job_id]) == []


def test_run_two_agents_simultaneously(world, runner):
    agent = world.queue.get_agent("chaos")
    for name in ("first", "second"):
        world.queue.register_agent(name, agent.argv, max_concurrent=1)
    jobs = {
        name: str(world.queue.create_job("chaos", {"args": ["plain", "1.5", "20"]}, agent=name).id)
        for name in ("first", "second")
    }
    job_ids = list(jobs.values())

    pgtest.eventually(lambda: len(world.history.alive(job_ids)) == 2, what="both run at once")

    assert world.wait_ended(job_ids, 20) == []
    assert set(world.states(job_ids).values()) == {"completed"}
    for job_id in job_ids:
        said = [line.message for line in world.queue.get_logs(job_id) if line.stream == "stdout"]
        assert said == [f"line {n} of 20" for n in range(1, 21)]
    assert world.check(job_ids) == []


@pytest.mark.parametrize("what", ["before it arrives", "after its commit"])
def test_disconnect_network_during_job_update(world, what):
    job_id = world.create("plain", 0.1, 1, run_at=None, delay=timedelta(hours=1))
    queue = Queue(Database(world.proxy_dsn, patience=5.0))
    try:
        before = queue.get_job(job_id)
        if what == "after its commit":
            world.proxy.drop_answer_to(b"persona.update_job(")
        else:
            world.proxy.refuse()
            world.proxy.heal()

        # Whether it took place is unknown to the caller, who is told so: a version that was named
        # is never tried again behind its back.
        try:
            queue.update_job(job_id, {"priority": 7}, expected_updated_at=before.updated_at)
            told = "done"
        except (DatabaseUnreachable, UpdateConflictError) as exc:
            told = type(exc).__name__
        now = world.queue.get_job(job_id)

        if what == "after its commit":
            assert told == "DatabaseUnreachable"
            assert now.priority == 7
            # Somebody's later edit is not overwritten by a repetition of the old one.
            newer = world.queue.update_job(job_id, lambda job: {"priority": 9})
            with pytest.raises(UpdateConflictError):
                queue.update_job(job_id, {"priority": 7}, expected_updated_at=before.updated_at)
            assert world.queue.get_job(job_id).updated_at == newer.updated_at
        else:
            assert (told, now.priority) in [("done", 7), ("DatabaseUnreachable", before.priority)]
    finally:
        queue.close()
        world.queue.cancel_job(job_id)


def test_disconnect_network_during_the_runners_update(world):
    """The same on the runner's side: its report of the result is committed, the answer is lost."""
    world.runners["a"].stop() if "a" in world.runners else None
    world.runner("p", via_proxy=True)
    world.proxy.drop_answer_to(b"persona.complete_jobs(")
    job_id = world.create("plain", 0.3, 5)

    assert world.wait_ended([job_id], 20) == []
    assert world.proxy.happened.wait(10)
    time.sleep(1.0)  # the report comes again
    with psycopg.connect(world.dsn) as conn:
        attempts = conn.execute(
            "select outcome, stale_result from persona.job_attempts where job_id = %s", (job_id,)
        ).fetchall()
    assert attempts == [("completed", None)]
    assert world.check([job_id]) == []


def test_let_agent_run_past_timeout(world, runner):
    began = time.monotonic()
    job = world.queue.create_job(
        "chaos", {"args": ["stubborn", "60", "60"]}, agent="chaos",
        timeout=timedelta(seconds=1), max_attempts=1,
    )  # fmt: skip
    job_id = str(job.id)

    assert world.wait_ended([job_id], 20) == []
    assert time.monotonic() - began < 8
    job = world.queue.get_full_job(job_id)
    assert (job.status, job.failure_kind, job.error) == ("failed", "timeout", "timeout after 1 s")
    assert world.check([job_id]) == []
    said = [line.message for line in world.queue.get_logs(job_id) if line.stream == "system"]
    assert any("timeout after 1 s" in line for line in said)
    assert world.queue.job_summary().unseen_alerts >= 1
