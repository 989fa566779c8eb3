"""pg_dump and pg_restore, with the queue live: what comes back is whole, and starts nothing twice."""

from __future__ import annotations

import itertools
import subprocess
import threading

import psycopg
import pytest
from pgtest import client_program, eventually, programs
from sqltest import Queue

from persona_pg import migrations


def program(name):
    """Find that of the server's own version: a newer pg_restore says what an older server lacks."""
    own = programs() / name
    return own if own.exists() else client_program(name)


@pytest.fixture
def live(dsn):
    """A queue in which somebody creates, claims and reports until the end."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        queue = Queue(conn)
        queue.agent(max_attempts=3)
        queue.call("tick")
        runner = queue.runner("worker", capacity=100)
        held = queue.start(runner, job_type="long")
        created, stop = [], threading.Event()

        def work():
            with psycopg.connect(dsn, autocommit=True) as other:
                busy = Queue(other)
                for n in itertools.count():
                    job = busy.create(dedupe_key=f"k{n}", payload={"prompt": f"text {n}"})
                    created.append(job["id"])
                    for run in busy.claim(runner):
                        busy.call("append_logs", runner_id=runner, lines=[
                            {"job_id": str(run["id"]), "lease": run["lease"], "seq": 1, "message": "x"}
                        ])  # fmt: skip
                        if n % 3:
                            busy.report(runner, run, "completed" if n % 2 else "failed")
                    if stop.is_set():
                        return

        thread = threading.Thread(target=work)
        thread.start()
        try:
            eventually(lambda: len(created) > 30, 30)
            yield queue, runner, held, created
        finally:
            stop.set()
            thread.join()


def test_a_dump_of_a_live_queue_is_whole_and_the_queue_goes_on(
    live, dsn, databases, empty_dsn, tmp_path
):
    queue, runner, held, created = live
    file = tmp_path / "persona.dump"
    dump = [program("pg_dump"), "-Fc", "-n", "persona", "-f", file, "-d", dsn]
    before = list(created)

    subprocess.run(dump, check=True, timeout=120)
    eventually(lambda: len(created) > len(before) + 5, 30)  # nobody waits for the dump
    restore = [
        program("pg_restore"),
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "-d",
        empty_dsn,
        file,
    ]
    subprocess.run(restore, check=True, timeout=120)
    migrations.migrate(empty_dsn)

    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        restored = Queue(conn)
        status = migrations.status(empty_dsn)
        assert [*status.pending, *(status.changed or ()), *(status.drifted or ())] == []
        assert restored.inconsistencies() == []
        found = {row["id"] for row in restored.rows("select id from persona.jobs")}
        assert set(before) <= found <= {*created, held["id"]}
        assert restored.status(held) == "running"
        # What ran when the dump was made may still run: nothing is handed out for a lease.
        restored.create(priority=99)
        assert restored.claim(runner, 50) == []
        assert "no job is handed out" in restored.explain(restored.create())
        restored.run("update persona.server_timeline set resume_at = now() - interval '1 s'")
        claimed = restored.claim(runner, 50)
        assert claimed
        assert held["id"] not in {run["id"] for run in claimed}
        restored.call("tick")
        restored.create()
        assert restored.claim(runner, 1)  # and it is not taken for a restored one again
    assert queue.beat(runner, held) == ["keep"]
    # The original was not taken for a restored one either.
    assert queue.value("select resume_at is null from persona.server_timeline")


@pytest.mark.parametrize("is_nested", [False, True])
def test_the_mark_of_the_server_outlives_all_but_a_restore(dsn, is_nested):
    with psycopg.connect(dsn, autocommit=True) as conn:
        queue = Queue(conn)
        queue.agent()
        runner = queue.runner()
        if is_nested:
            with conn.transaction(), conn.transaction():
                queue.call("tick")
        else:
            queue.call("tick")
            conn.execute("vacuum full persona.server_timeline")
            conn.execute("vacuum freeze persona.server_timeline")
        queue.create()

        assert len(queue.claim(runner)) == 1
        assert queue.value("select row_xid is null from persona.server_timeline") is is_nested
