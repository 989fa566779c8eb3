"""Fixtures of the runner's tests: jobs made and looked at in SQL, a breakable way to the server."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from pathlib import Path

import pgtest
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import namedtuple_row

# Everything short, so that a lease's whole life fits into a test: 3 beats + grace are 2 s.
SHORT = {
    "JOB_HUNG_TIMEOUT": "4s",
    "JOB_HEARTBEAT_INTERVAL": "500ms",
    "JOB_KILL_GRACE": "500ms",
}
ENDED = ("completed", "failed", "cancelled")
# Leaves session, group, environment and parent behind, and does not hear SIGTERM.
STUBBORN = """
trap '' TERM
(setsid env -i /bin/sh -c 'trap "" TERM; (sleep 1000 & echo $! >&2); exec sleep 1000' &)
"""


class Jobs:
    """The queue, as a test needs it."""

    def __init__(self, conn):
        self.conn = conn
        self._rows = conn.cursor(row_factory=namedtuple_row)

    def create(self, job_type, payload, **options):
        names = "".join(f", {name} => %({name})s" for name in options)
        sql = f"select (persona.create_job(%(type)s, %(payload)s{names})).id"
        values = {"type": job_type, "payload": json.dumps(payload), **options}
        return str(self.conn.execute(sql, values).fetchone()[0])

    def command(self, *argv, **options):
        payload = {"argv": [str(part) for part in argv]}
        if (cwd := options.pop("cwd", None)) is not None:
            payload["cwd"] = str(cwd)
        return self.create("command", payload, **options)

    def sh(self, script, **options):
        return self.command("sh", "-c", script, **options)

    def python(self, code, **options):
        return self.command(sys.executable, "-I", "-c", code, **options)

    def row(self, job):
        return self._rows.execute("select * from persona.jobs where id = %s", (job,)).fetchone()

    def until(self, job, *statuses, timeout=60.0):
        """Wait until the job has one of these statuses; returns its row."""
        deadline = time.monotonic() + timeout
        while (row := self.row(job)).status not in statuses:
            if time.monotonic() > deadline:
                lines = [self.lines(job, stream)[-3:] for stream in ("stdout", "stderr", "system")]
                runners = self._rows.execute("select * from persona.runners").fetchall()
                raise AssertionError(f"not {statuses} in {timeout} s: {row}\n{lines}\n{runners}")
            time.sleep(0.02)
        return row

    def end(self, job, timeout=60.0):
        return self.until(job, *ENDED, timeout=timeout)

    def running(self, job, timeout=60.0):
        return self.until(job, "running", timeout=timeout)

    def lines(self, job, stream="stdout"):
        sql = (
            "select message from persona.job_logs where job_id = %s and stream = %s"
            " order by lease, seq"
        )
        return [row[0] for row in self.conn.execute(sql, (job, stream))]

    def first_line(self, job, stream="stdout", timeout=20.0):
        return pgtest.eventually(lambda: self.lines(job, stream), timeout)[0]

    def attempts(self, job):
        sql = "select * from persona.job_attempts where job_id = %s order by started_at"
        return self._rows.execute(sql, (job,)).fetchall()

    def cancel(self, job, reason="test", *, force=False):
        self.conn.execute("select persona.cancel_job(%s, %s, force => %s)", (job, reason, force))

    def set(self, name, value):
        self.conn.execute("select persona.set_setting(%s, %s)", (name, json.dumps(value)))


@pytest.fixture
def jobs(conn):
    return Jobs(conn)


@pytest.fixture
def jobs_of():
    """The same on a connection of one's own."""
    return Jobs


class History:
    """What executions say of themselves: begin and end, each one line written at once.

    Each begins by looking whether an earlier one of its job is still alive.
    """

    def __init__(self, path):
        self.path = path
        path.touch()

    def script(self, seconds):
        return f"""
        for pid in $(sed -n "s/^begin $PERSONA_JOB_ID //p" {self.path}); do
          if kill -0 $pid 2>/dev/null; then echo "overlap $PERSONA_JOB_ID $pid" >> {self.path}; fi
        done
        echo "begin $PERSONA_JOB_ID $$" >> {self.path}
        sleep {seconds}
        echo "end $PERSONA_JOB_ID $$" >> {self.path}
        """

    def count(self, what, job=""):
        lines = self.path.read_text().splitlines()
        return sum(line.startswith(f"{what} {job}") for line in lines)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history")


def is_alive(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Proxy:
    """A way to the server that a test can break."""

    def __init__(self, dsn):
        given = conninfo_to_dict(dsn)
        self._target = f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}"
        self._is_unix = str(given["host"]).startswith("/")
        self._where = (given["host"], int(given.get("port") or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self.port, sslmode="disable")
        self.is_refusing = False
        self.is_silent = False
        self.bytes_per_second = None
        # Called with each piece on its way (to_server, data); False: the connection is cut there.
        self.filter = lambda to_server, data: True
        self._pairs = set()
        self._stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self._stopping:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            try:
                if self._is_unix:
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(self._target)
                else:
                    server = socket.create_connection(self._where)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            self._pairs.add(pair)
            threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, client, server):
        pair = (client, server)
        try:
            while True:
                ready, _, _ = select.select(pair, [], [], 0.2)
                if pair not in self._pairs:
                    return
                if self.is_silent:
                    time.sleep(0.05)
                    continue
                for one in ready:
                    data = one.recv(65536)
                    if not data or not self.filter(one is client, data):
                        return
                    (server if one is client else client).sendall(data)
                    if self.bytes_per_second and one is client:
                        time.sleep(len(data) / self.bytes_per_second)
        except OSError:
            return
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.close()

    def cut(self):
        """Break every connection there is."""
        for pair in list(self._pairs):
            self._pairs.discard(pair)
            for one in pair:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def close(self):
        self._stopping = True
        self._listener.close()
        self.cut()


@pytest.fixture
def proxy(dsn):
    made = Proxy(dsn)
    yield made
    made.close()


@pytest.fixture
def sent(proxy):
    """When each statement of a worker was sent that reaches its database through the proxy."""
    times = []

    def count(to_server, data):
        if to_server:
            times.extend([time.monotonic()] * (data.count(b"persona.") + data.count(b"listen ")))
        return True

    proxy.filter = count
    return times


@pytest.fixture
def short():
    """Settings with which a lease lasts 4 s."""
    return dict(SHORT)


@pytest.fixture
def alive():
    return is_alive


@pytest.fixture
def stubborn():
    return STUBBORN


@pytest.fixture
def runner_pid():
    """Find the runner below its guardian."""

    def find(guardian):
        def child():
            for process in psutil.Process(guardian.pid).children():
                if "persona-worker" in " ".join(process.cmdline()):
                    return process.pid
            return None

        return pgtest.eventually(child)

    return find


@pytest.fixture
def ready():
    """Wait until a worker serves."""

    def wait(worker, timeout=60.0):
        pgtest.eventually(lambda: " is ready: " in worker.output(), timeout, what=worker.output)
        return worker

    return wait


@pytest.fixture
def peak_rss():
    """Return the greatest resident size of a process so far, in bytes."""

    def read(pid):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(pid)

    return read
