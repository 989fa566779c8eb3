"""What the tests share besides fixtures: servers, programs of PostgreSQL, waiting, processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from persona_pg.embedded import wheel_programs
from persona_pg.pgserver import Server

ROOT = Path(__file__).resolve().parent.parent
# Nobody pulls the plug of a test machine, but tests do kill servers: a commit that was
# acknowledged must still be there, so synchronous_commit stays on and only fsync goes.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",
}

# Several servers with a few databases and their WAL each; a container may have 64 MB there.
ROOM_FOR_SERVERS = 4 << 30


def programs(wanted: str | None = None) -> Path:
    """Find the PostgreSQL programs that PERSONA_TEST_PG names: 15, 16, 18 or a folder."""
    wanted = wanted or os.environ.get("PERSONA_TEST_PG") or "18"
    if not wanted.isdigit():
        return Path(wanted)
    for candidate in (wheel_programs(int(wanted)), Path(f"/usr/lib/postgresql/{wanted}/bin")):
        if candidate is not None and (candidate / "postgres").exists():
            return candidate
    raise LookupError(f"PERSONA_TEST_PG={wanted}: there is no PostgreSQL {wanted} on this machine")


def client_program(name: str) -> str:
    """Find psql, pg_dump and the like: the newest there is, which can talk to all servers."""
    newest = wheel_programs()
    return str(newest / name) if newest is not None else shutil.which(name) or name


# Behind a pooler in transaction mode (see client_dsn) programs are not told: they ask.
IS_TOLD = os.environ.get("PERSONA_TEST_POOLER") != "transaction"


def eventually(check, timeout=10.0, *, interval=0.02, what=None):
    """Call *check* until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        last = check()
        if last:
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or check}; the last was {last!r}")
        time.sleep(interval)


_REAPER = """
import os, shutil, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.read()
from pathlib import Path
from persona_pg.pgserver import Server
folder, programs = Path(sys.argv[1]), Path(sys.argv[2])
server = Server(folder / "pg", programs, trust=True)
if server._pid_file():
    try:
        server.control("stop", "-m", "immediate", "-w")
    except Exception as exc:
        print("the test server was not stopped:", exc, file=sys.stderr)
shutil.rmtree(folder, ignore_errors=True)
"""


def place_for_servers() -> str:
    """Choose memory where there is room: copying the template takes a tenth of the time there."""
    try:
        room = shutil.disk_usage("/dev/shm").free
    except OSError:
        return "/tmp"
    return "/dev/shm" if room > ROOM_FOR_SERVERS else "/tmp"


class TemporaryServer:
    """A server in a folder of its own, stopped and removed even if this process is killed.

    A helper process waits for the end of a pipe that only we hold.
    """

    def __init__(self, options=None, bin_directory=None):
        self.bin = bin_directory or programs()
        # Short, because of the socket; open enough for the account that runs the server.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=place_for_servers()))
        self.folder.chmod(0o711)
        self.server = Server(
            self.folder / "pg", self.bin, options=FAST | (options or {}), trust=True
        )
        self._reaper = self._start_reaper()
        self.server.start()

    def _start_reaper(self):
        return subprocess.Popen(
            [sys.executable, "-c", _REAPER, str(self.folder), str(self.bin)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    @property
    def host(self) -> str:
        return str(self.server.socket_directory())

    def close(self) -> None:
        self._reaper.stdin.close()
        self._reaper.wait(60)


def processes_of(home, job_ids=()):
    """Find every live process that belongs to a test: by its PERSONA_HOME, or a job's id.

    Runner and guardian carry the test's PERSONA_HOME in their environment, a job's processes
    their job's id.  The embedded server has a clean environment and does not count.
    """
    wanted = {f"PERSONA_HOME={home}"} | {f"PERSONA_JOB_ID={job_id}" for job_id in job_ids}
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_text(errors="replace").split("\0")
            if wanted.intersection(environ) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


class WorkerProcess:
    """A running persona-worker: the process that was started, and what it has said."""

    def __init__(self, command, env, log):
        self.log = log
        self._stream = log.open("ab")
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout=30.0) -> int:
        return self.process.wait(timeout)

    def stop(self, timeout=20.0) -> int:
        """Ask twice (drain, then give back at once), then insist."""
        self._stream.close()
        for number, patience in ((signal.SIGTERM, 0.3), (signal.SIGTERM, timeout)):
            if self.process.poll() is not None:
                break
            self.process.send_signal(number)
            try:
                return self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(5)
