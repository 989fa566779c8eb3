"""Fixtures: a queue in SQL, and one real runner for all tests of a module."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pgtest
import psycopg
import pytest
from sqltest import FINISHED
from sqltest import Queue as SqlQueue

from persona_pg.database import Database
from persona_pg.queue import Queue

# Everything short; a lease has to hold three heartbeats and the grace.
SHORT = {
    "JOB_HUNG_TIMEOUT": "4s",
    "JOB_HEARTBEAT_INTERVAL": "500ms",
    "JOB_KILL_GRACE": "500ms",
    "JOB_OUTPUT_LIMIT": "1MB",
}


@pytest.fixture
def sql(conn):
    """Functions of the schema over one connection, with an agent called a."""
    found = SqlQueue(conn)
    found.agent()
    yield found
    assert found.inconsistencies() == []


class World:
    """A database, its client, and runners on it."""

    def __init__(self, dsn, folder):
        self.queue = Queue(Database(dsn))
        self.folder = folder
        self.env = SHORT | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "PERSONA_HOME": str(folder / "home"),
            "PERSONA_ENV_FILE": "/dev/null",
            "PERSONA_DATABASE_URL": dsn,
        }
        self._workers = []

    def worker(self, name):
        """Start a runner of that name."""
        program = shutil.which("persona-worker", path=self.env["PATH"])
        log = self.folder / f"worker-{len(self._workers)}.log"
        self._workers.append(pgtest.WorkerProcess([program, "--name", name], self.env, log))
        return self._workers[-1]

    def sh(self, script, **options):
        """Create a job that runs a script; returns its id."""
        options = {"max_attempts": 1} | options
        payload = {"argv": ["sh", "-c", script]}
        return self.queue.create_job("command", payload, **options).id

    def until(self, job, *statuses):
        """Wait until the job has one of these statuses; returns its row."""

        def look():
            row = self.queue.get_job(job)
            return row if row.status in statuses else None

        return pgtest.eventually(look, 30, what=lambda: self.queue.get_job(job))

    def end(self, job):
        """Wait until the job has ended; returns its row."""
        return self.until(job, *FINISHED)

    def said(self, job):
        """The lines that a job has printed until now."""
        return [line.message for line in self.queue.iter_logs(job) if line.stream == "stdout"]

    def close(self):
        self.queue.close()
        for worker in self._workers:
            worker.stop()
        assert pgtest.processes_of(self.folder / "home") == []


@pytest.fixture(scope="module")
def world(databases, postgresql_noproc, tmp_path_factory):
    """One real runner, called first."""
    name = databases.create(postgresql_noproc.template_dbname)
    made = World(databases.dsn(name), tmp_path_factory.mktemp("faults"))
    with psycopg.connect(databases.dsn(name), autocommit=True) as conn:
        conn.execute("select persona.register_agent('echo', '{cat}', stdin_template => '{prompt}')")
    made.first = made.worker("first")
    yield made
    made.close()
    databases.drop(name)
