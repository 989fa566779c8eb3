"""The hardening list of the first system: leaking timers, races on progress.json, refreshes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pgtest import eventually
from sqltest import Queue


@pytest.fixture
def monitor(persona_env, tmp_path):
    """Start a monitor that keeps a status file; returns (process, path)."""
    program = shutil.which("persona-monitor", path=str(Path(sys.executable).parent))
    path = tmp_path / "progress.json"
    process = subprocess.Popen([program, "--status-file", str(path)], env=persona_env)
    eventually(path.exists)
    yield process, path
    if process.poll() is None:
        process.kill()
    process.wait()


def test_hardening_10_no_timer_outlives_the_monitor(monitor, conn):
    process, _ = monitor
    eventually(lambda: conn.execute("select count(*) from persona.watchers").fetchone() == (1,))
    timers = Path(f"/proc/{process.pid}/timers")
    if timers.exists():
        assert timers.read_text() == ""
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert conn.execute("select count(*) from persona.watchers").fetchone() == (0,)
    gone = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    eventually(lambda: conn.execute(gone).fetchone() == (0,))


def test_hardening_12_and_13_a_thousand_changes_few_refreshes_and_always_valid_json(monitor, conn):
    process, path = monitor
    sql = Queue(conn)
    sql.agent()
    read = 0
    for n in range(1000):
        sql.run("select id from persona.create_job('research', '{\"question\": \"x\"}', 'a')")
        if n % 10 == 0:
            assert json.loads(path.read_text())["status"] == "idle"
            read += 1
    assert read == 100

    def all_seen():
        found = json.loads(path.read_text())
        return found if found["summary"]["pending"] == 1000 else None

    took = conn.execute(
        "select extract(epoch from max(created_at) - min(created_at)) from persona.jobs"
    )
    seconds = float(took.fetchone()[0])
    found = eventually(all_seen)
    # At most one refresh each 0.25 s, beside those of the start.
    assert found["revision"] <= seconds / 0.25 + 12
    assert {p.name for p in path.parent.iterdir()} >= {path.name}
    assert process.poll() is None
