"""Fixtures of the command line: a runner played in SQL, a terminal, a database of one's own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from persona_pg.database import Database
from persona_pg.queue import Queue


class SqlRunner:
    """A runner played by hand: claims, prints and ends jobs through the runner's functions."""

    def __init__(self, conn, name="played", agents=None, capacity=10):
        self.conn = conn
        self.name = name
        self.id = conn.execute(
            "select r.id from persona.register_runner(name => %s, hostname => 'testhost',"
            " pid => 4242, capacity => %s, agents => %s, version => '0') as r",
            (name, capacity, agents),
        ).fetchone()[0]
        self._seq = 0

    def claim(self, timeout=10.0):
        """Wait for a job and claim it; returns (id, lease)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            row = self.conn.execute(
                "select c.id, c.lease from persona.claim_jobs(%s, 1) as c", (self.id,)
            ).fetchone()
            if row is not None:
                return row
            time.sleep(0.02)
        raise AssertionError("nothing to claim")

    def log(self, job, message, stream="stdout", level="info", metadata=None):
        self._seq += 1
        line = {
            "job_id": str(job[0]),
            "lease": job[1],
            "seq": self._seq,
            "stream": stream,
            "level": level,
            "message": message,
            "metadata": metadata,
        }
        self.conn.execute("select persona.append_logs(%s, %s)", (self.id, json.dumps([line])))

    def directive(self, job):
        beat = [{"job_id": str(job[0]), "lease": job[1], "pid": 77}]
        return self.conn.execute(
            "select h.directive, h.force from persona.heartbeats(%s, %s) as h",
            (self.id, json.dumps(beat)),
        ).fetchone()

    def wait_for_cancel(self, job, timeout=10.0, *, force=False):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            directive, forced = self.directive(job)
            if directive == "cancel" and (forced or not force):
                return
            time.sleep(0.02)
        raise AssertionError("nobody asked for the end of the job")

    def end(self, job, outcome="completed", **report):
        item = {"job_id": str(job[0]), "lease": job[1], "outcome": outcome, **report}
        return self.conn.execute(
            "select c.status from persona.complete_jobs(%s, %s) as c", (self.id, json.dumps([item]))
        ).fetchone()[0]


@pytest.fixture
def runner(connect):
    """A live runner, played in SQL."""
    return SqlRunner(connect("played runner"))


@pytest.fixture
def sql_runner():
    """The class of runners played in SQL."""
    return SqlRunner


@pytest.fixture
def play(connect):
    """Run a function with a runner of its own in the background, while a command runs."""
    threads, failures = [], []

    def start(part, **options):
        runner = SqlRunner(connect("played in the background"), **options)

        def body():
            try:
                part(runner)
            except BaseException as exc:  # noqa: BLE001 - told in the test's own thread
                failures.append(exc)

        threads.append(threading.Thread(target=body, daemon=True))
        threads[-1].start()

    yield start

    for thread in threads:
        thread.join(15)
    assert not failures, failures


@pytest.fixture
def queue(dsn):
    with Queue(Database(dsn, application_name="client")) as found:
        yield found


@pytest.fixture
def create(queue):
    """Create a job that any agent could do; returns its id."""

    def make(prompt="?", **options):
        options = {"agent": "assistant"} | options
        return str(queue.create_job("x", {"prompt": prompt}, **options).id)

    return make


@pytest.fixture
def create_command(queue):
    """Create a job that runs a command; returns its id."""

    def make(*argv, **options):
        return str(queue.create_job("command", {"argv": list(argv)}, **options).id)

    return make


@pytest.fixture
def persona():
    """Path of the installed program."""
    return shutil.which("persona", path=str(Path(sys.executable).parent))


@pytest.fixture
def popen(persona, persona_env):
    """Start persona and leave it running."""
    started = []

    def start(*arguments, env=None, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        started.append(
            subprocess.Popen(
                [persona, *arguments],
                stdin=subprocess.DEVNULL,
                env=persona_env | (env or {}),
                **options,
            )
        )
        return started[-1]

    yield start

    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def terminal(persona, persona_env):
    """Run persona on a terminal of so many columns; returns (exit code, everything shown)."""

    def run(*arguments, columns=80, answer="", env=None, timeout=30):
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [persona, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env=persona_env | {"TERM": "xterm"} | (env or {}),
            start_new_session=True,
        )
        os.close(side)
        if answer:
            os.write(main, answer.encode())
        shown = bytearray()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                data = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            shown += data
        os.close(main)
        return process.wait(timeout), shown.decode().replace("\r\n", "\n")

    return run
