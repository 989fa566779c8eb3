"""A server, a proxy before it, runners, and jobs that tell what happens to them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pgtest
import psutil
import psycopg
from chaos.history import AUDIT, FINAL, History, check, is_running
from chaos.proxy import Proxy
from psycopg.conninfo import make_conninfo

from persona_pg import migrations
from persona_pg.queue import Queue
from persona_pg.runner import procfs

if TYPE_CHECKING:
    import random

OWNER = "persona"
JOB = Path(__file__).with_name("job.py")
LEASE = 3.0
HEARTBEAT = 0.4
GRACE = 0.4
CONCURRENCY = 4


class Runner:
    """A persona-worker with its guardian, started again as a service manager would."""

    def __init__(self, world, name, home=None, **how):
        self.world = world
        self.name = name
        self.home = home or world.folder / "home"
        self.how = how
        self.process = None
        self._pids = set()
        self._starts = 0

    def start(self, *, wait=True, env=None, prefix=(), user=None, arguments=(), python=None):
        """Start it; *prefix* is a command that starts it in turn."""
        self._starts += 1
        self.home.mkdir(parents=True, exist_ok=True)
        if user is not None:
            for path in (self.home, self.home / "runners"):
                path.mkdir(exist_ok=True)
                os.chown(path, user, user)
        log = self.world.folder / f"{self.home.name}-{self.name}-{self._starts}.log"
        dsn = self.world.proxy_dsn if self.how.get("via_proxy") else self.world.dsn
        environ = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.world.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(pgtest.ROOT),
            "PERSONA_HOME": str(self.home),
            "PERSONA_ENV_FILE": os.devnull,
            "PERSONA_DATABASE_URL": self.how.get("dsn") or dsn,
            "JOB_HUNG_TIMEOUT": f"{LEASE}s",
            "JOB_HEARTBEAT_INTERVAL": f"{HEARTBEAT}s",
            "JOB_KILL_GRACE": f"{GRACE}s",
            "WORKER_CONCURRENCY": str(CONCURRENCY),
            # No net: what waits for one is a lost wake-up, and is found.
            "WORKER_POLL_INTERVAL": "never",
            "WORKER_DRAIN_TIMEOUT": "20s",
            **(env or {}),
        }
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [
                    *(*prefix, python or sys.executable, "-m", "persona_pg.runner.main"),
                    *("--name", self.name, *arguments),
                ],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                cwd="/",
            )
        self.log = log
        if wait:
            pgtest.eventually(
                lambda: "is ready" in self.output() or self.process.poll() is not None,
                30,
                what=f"{self.name} is ready: {self.output()}",
            )
            assert self.process.poll() is None, self.output()
        return self

    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def _lock_file(self):
        return self.home / "runners" / f"{self.name}.lock"

    @property
    def guardian(self):
        return self.process.pid

    @property
    def pid(self):
        """The runner itself, as it wrote it into its lock file."""
        found = int(json.loads(self._lock_file.read_bytes())["pid"])
        self._pids.add((found, procfs.start_time(found)))
        return found

    @property
    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, pid, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def ensure(self):
        if not self.is_alive:
            self.start()
        return self

    def stop(self, timeout=15.0):
        """Ask twice, then insist; also of a runner whose first guardian is gone."""
        if self.process is None:
            return
        targets = self._pids.copy()
        # The pid of one that has ended may be another one's by now.
        if self.process.poll() is None:
            targets.add((self.process.pid, procfs.start_time(self.process.pid)))
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            recorded = int(json.loads(self._lock_file.read_bytes())["pid"])
            if self.name in psutil.Process(recorded).cmdline():
                targets.add((recorded, procfs.start_time(recorded)))

        def living():
            self.process.poll()
            return [p for p, s in targets if s and procfs.start_time(p) == s and is_running(p)]

        for number, patience in ((15, 0.2), (15, timeout), (9, 5.0)):
            for pid in living()[:1] if number == 15 else living():
                self.kill(pid, signal.SIGCONT)
                self.kill(pid, number)
            deadline = time.monotonic() + patience
            while living() and time.monotonic() < deadline:
                time.sleep(0.01)
        self.process.wait(5)
        self._pids.clear()


class World:
    """Everything that an episode needs."""

    def __init__(self, folder, server=None):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        self._owns_server = server is None
        self.server = server or pgtest.TemporaryServer()
        self.database = f"c_{uuid.uuid4().hex[:12]}"
        with self.superuser("postgres") as admin:
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                admin.execute(f"create role {OWNER} login createrole createdb")
            admin.execute(f"create database {self.database} owner {OWNER}")
        self.dsn = make_conninfo(host=self.server.host, port=5432, user=OWNER, dbname=self.database)
        migrations.migrate(self.dsn)
        with self.superuser() as admin:
            admin.execute(AUDIT)
        self.proxy = Proxy(f"{self.server.host}/.s.PGSQL.5432")
        self.proxy_dsn = make_conninfo(
            host="127.0.0.1", port=self.proxy.port, user=OWNER, dbname=self.database
        )
        self.history = History(self._make("history"))
        self.queue = Queue.connect(self.dsn)
        self.register(sys.executable)
        with self.superuser() as admin:
            # Faults come closer together here than in any life, and retries soon.
            admin.execute(
                "update persona.settings set value = case name when 'rescue_cap' then '50'"
                " else '0.1' end::jsonb where name in ('rescue_cap', 'retry_base_seconds')"
            )
        self.runners = {}
        self.strangers = []

    def register(self, python):
        """Have the jobs run with this Python."""
        self.queue.register_agent(
            "chaos",
            [python, "-I", "-S", str(JOB), str(self.history.folder), "{payload.args...}"],
            max_attempts=3,
        )

    def _make(self, name):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def superuser(self, dbname=None):
        return psycopg.connect(
            host=self.server.host,
            port=5432,
            user="postgres",
            dbname=dbname or self.database,
            autocommit=True,
        )

    def runner(self, name, **how):
        """A running runner of that name."""
        if name not in self.runners:
            self.runners[name] = Runner(self, name, **how)
        return self.runners[name].ensure()

    def create(self, kind="plain", seconds=0.3, lines=5, *, queue=None, **options):
        job = (queue or self.queue).create_job(
            "chaos", {"args": [kind, str(seconds), str(lines)]}, agent="chaos", **options
        )
        return str(job.id)

    def rows(self, query, *params):
        """Ask over a connection of its own: the old one may be a victim."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.superuser() as conn:
                    return conn.execute(query, params or None).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def states(self, job_ids):
        return dict(
            self.rows(
                "select j.id::text, j.status from persona.jobs as j where j.id = any(%s::uuid[])",
                list(job_ids),
            )
        )

    def unfinished(self, job_ids):
        return [i for i, status in self.states(job_ids).items() if status not in FINAL]

    def running_on(self, runner, job_ids):
        """List the executions on that runner that have begun to work."""
        held = {
            row[0]
            for row in self.rows(
                "select l.job_id::text from persona.job_leases as l"
                " join persona.runners as r on r.id = l.runner_id where r.name = %s",
                runner.name,
            )
        }
        return [e for e in self.history.alive(job_ids) if e.start.job_id in held]

    def wait_ended(self, job_ids, timeout=60.0):
        deadline = time.monotonic() + timeout
        while left := self.unfinished(job_ids):
            if time.monotonic() > deadline:
                return left
            time.sleep(0.05)
        return []

    def check(self, job_ids):
        # What ends together with its job may need a moment to be gone.
        with self.superuser() as conn:
            broken = check(self.history, conn, job_ids)
            if any("left behind" in words for words in broken):
                time.sleep(0.3)
                broken = check(self.history, conn, job_ids)
        return broken

    def close(self):
        self.proxy.heal()
        for runner in self.runners.values():
            runner.stop()
        for stranger in self.strangers:
            stranger.kill()
            stranger.wait()
        left = pgtest.processes_of(self.folder / "home")
        self.queue.close()
        self.proxy.close()
        with contextlib.suppress(psycopg.Error), self.superuser("postgres") as admin:
            admin.execute(f"drop database {self.database} with (force)")
        if self._owns_server:
            self.server.close()
        for process in left:
            process.kill()
        assert not left, f"runners left behind: {left}"


@dataclass
class Episode:
    """One fault under load, and what came of it."""

    world: World
    rng: random.Random
    fault: str
    job_ids: list = field(default_factory=list)
    broken: list = field(default_factory=list)
    late: list = field(default_factory=list)  # kept, but beyond its bound of time
    affected: list = field(default_factory=list)
    struck_at: float = 0.0
    over_at: float = 0.0
    recovered_in: float = 0.0
    gone_in: float | None = None
    skipped: str | None = None
    is_finished: bool = False

    def demand(self, is_kept, words):
        if not is_kept:
            self.broken.append(words)

    def create(self, *args, **options):
        self.job_ids.append(self.world.create(*args, **options))
        return self.job_ids[-1]

    def strike(self):
        """Note who is hit, now."""
        self.affected = self.world.history.alive(self.job_ids)
        self.struck_at = procfs.boottime()

    def over(self):
        self.over_at = procfs.boottime()

    def measure_gone(self, executions, limit=1.0):
        """Wait until the processes of these executions are gone."""
        began = procfs.boottime()
        while [e for e in executions if e.is_alive] and procfs.boottime() - began < 10:
            time.sleep(0.005)
        took = procfs.boottime() - began
        self.gone_in = max(self.gone_in or 0.0, took)
        if took > limit:
            self.late.append(f"processes gone only after {took:.2f} s")

    def finish(self, timeout=60.0):
        """Wait for the end of all jobs, see how long the trouble lasted, and look for damage."""
        if self.is_finished:
            return self
        self.is_finished = True
        over = self.over_at or self.struck_at
        probed_at = max(over, procfs.boottime())
        probe = self.create("plain", 0.01, 1, priority=100)
        left = self.world.wait_ended(self.job_ids, timeout)
        for job_id in left:
            self.broken.append(f"job {job_id} did not end: {self.world.queue.explain_job(job_id)}")
        runs = self.world.history.executions(self.job_ids)
        waits = [run.start.boottime - probed_at for run in runs[probe][:1]]
        for hit in self.affected:
            again = [r.start.boottime for r in runs[hit.start.job_id] if r.start != hit.start]
            waits += [at - over for at in again if at > self.struck_at][:1]
        self.recovered_in = max([0.0, *waits])
        self.broken += self.world.check(self.job_ids)
        return self


def evidence(episode):
    """Tell what is known of the jobs of which something was found broken."""
    world = episode.world
    named = {job_id for job_id in episode.job_ids for words in episode.broken if job_id in words}
    lines = []
    for job_id in named:
        lines.append(f"job {job_id}")
        lines += [f"  {e}" for e in world.history.events() if e.job_id == job_id]
        for query in (
            (
                "select n, was, status, lease, at::time::text from chaos.changes"
                " where job_id = %s order by n"
            ),
            (
                "select lease, outcome, runner_name, started_at::time::text, ended_at::time::text,"
                " error, pid, stale_result from persona.job_attempts where job_id = %s order by lease"
            ),
            (
                "select lease, seq, at::time::text, stream, message from persona.job_logs"
                " where job_id = %s order by lease, seq"
            ),
        ):
            lines += [f"  {row}" for row in world.rows(query, job_id)]
    for runner in world.runners.values():
        lines += [f"runner {runner.name}", *runner.output().splitlines()[-40:]]
    return "\n".join(lines)


@contextlib.contextmanager
def new_world(server=None):
    """A world in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    try:
        world = World(folder, server)
        try:
            yield world
        finally:
            world.close()
    finally:
        if not os.environ.get("PERSONA_TEST_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
