"""Five failovers and two switchovers of a Patroni cluster while jobs are created and run.

bin/test --cluster tests/cluster/test_patroni.py -s    (Debian: apt-get install patroni etcd-server)
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from cluster.conftest import free_port, need
from cluster.patroni import Cluster
from pgtest import eventually

from persona_pg import migrations
from persona_pg.database import Database
from persona_pg.errors import PersonaError
from persona_pg.queue import Queue

CRASHES, SWITCHOVERS = 5, 2
SERVER = Path("/usr/lib/postgresql/15/bin")
# An outage of lease - heartbeat - grace - 5 s = 21 s is bridged: what the two servers need to see
# that the third is gone (ttl: 20) is longer by a little, now and then.
SHORT = {"JOB_HUNG_TIMEOUT": "40s", "JOB_HEARTBEAT_INTERVAL": "3s", "JOB_KILL_GRACE": "1s"}
# The lock is held by whatever lives of an execution, so it tells whether two are alive at once.
SCRIPT = """
exec 9>> locks/$PERSONA_JOB_ID
flock -n 9 || echo twice $PERSONA_JOB_ID >> history
echo start $PERSONA_JOB_ID >> history
sleep 0.5
echo end $PERSONA_JOB_ID >> history
"""


@pytest.fixture
def cluster():
    programs = need("patroni", "etcd", "setpriv", "flock")
    if not (SERVER / "pg_rewind").exists():
        pytest.skip(f"no PostgreSQL in {SERVER}")
    made = Cluster(programs, free_port, SERVER)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Creator(threading.Thread):
    """Creates jobs, each until it is acknowledged, and knows how long that took at most."""

    def __init__(self, dsn, folder):
        super().__init__()
        self._dsn, self._folder = dsn, folder
        self.acknowledged, self.tried, self.errors = [], 0, 0
        self.longest = 0.0
        self.over = threading.Event()

    def run(self):
        payload = {"argv": ["sh", "-c", SCRIPT], "cwd": str(self._folder)}
        with Queue(Database(self._dsn)) as queue:
            while not self.over.wait(0.3):
                id_, began = uuid.uuid4(), time.monotonic()
                self.tried += 1
                while True:
                    try:
                        queue.create_job("command", payload, id=id_)
                        break
                    except PersonaError:
                        self.errors += 1
                self.acknowledged.append(str(id_))
                self.longest = max(self.longest, time.monotonic() - began)


@pytest.mark.timeout(1500)
def test_five_crashes_and_two_switchovers_lose_nothing_and_run_nothing_twice(
    cluster, worker, tmp_path, capsys
):
    with psycopg.connect(cluster.dsn("postgres", "postgres"), autocommit=True) as admin:
        admin.execute("create role persona login createrole createdb password 'persona'")
        admin.execute("create database persona owner persona")
    dsn = cluster.dsn("persona", "persona")
    migrations.migrate(f"{dsn} target_session_attrs=read-write")
    (tmp_path / "locks").mkdir()
    history = tmp_path / "history"
    history.touch()
    runners = [
        worker("--name", name, "-c", 8, env={"PERSONA_DATABASE_URL": dsn} | SHORT) for name in "ab"
    ]
    creators = [Creator(dsn, tmp_path) for _ in range(2)]
    for one in creators:
        one.start()
    eventually(lambda: history.read_text().count("end") > 20, 60, what=runners[0].output)

    told, pauses = [], []

    def say(text):
        told.append(text)
        with capsys.disabled():
            print(text, flush=True)

    say("")
    for number in range(CRASHES + SWITCHOVERS):
        began = time.monotonic()
        old = cluster.leader
        before = history.stat().st_size
        if number < CRASHES:
            old.kill()
        else:
            cluster.switch_over()
        eventually(lambda old=old: (m := cluster.members()) and any(
            role == "leader" and name != old.name and state == "running" for name, (role, state) in m.items()
        ), 120, interval=0.2)  # fmt: skip
        promoted = time.monotonic() - began
        if number < CRASHES:
            old.start()
        cluster.settled()
        settled = time.monotonic() - began
        size = history.stat().st_size
        eventually(
            lambda size=size: history.stat().st_size > size + 200,
            240,
            interval=0.2,
            what=runners[0].output,
        )
        pauses.append(time.monotonic() - began)
        kind = "crash" if number < CRASHES else "switchover"
        say(f"{kind} {number + 1} of {old.name}: a new primary after {promoted:.1f} s, both nodes again after"
            f" {settled:.1f} s, jobs start again at the latest after {pauses[-1]:.1f} s"
            f" ({history.stat().st_size - before} bytes of history since)")  # fmt: skip
    for one in creators:
        one.over.set()
    for one in creators:
        one.join(120)
    acknowledged = {job for one in creators for job in one.acknowledged}
    with psycopg.connect(f"{dsn} target_session_attrs=read-write", autocommit=True) as conn:
        states = "select status, count(*) from persona.jobs group by 1"
        eventually(lambda: [r[0] for r in conn.execute(states)] == ["completed"], 300, interval=1,
                   what=lambda: conn.execute(states).fetchall())  # fmt: skip
        jobs = {str(r[0]) for r in conn.execute("select id from persona.jobs")}
        attempts = conn.execute(
            "select outcome, count(*) from persona.job_attempts group by 1"
        ).fetchall()
    kinds = Counter(line.split()[0] for line in history.read_text().splitlines())
    ran = {line.split()[1] for line in history.read_text().splitlines() if line.startswith("end")}
    say(f"created {sum(one.tried for one in creators)}, acknowledged {len(acknowledged)}, in the table {len(jobs)},"
        f" lost {len(acknowledged - jobs)}, acknowledged and never run {len(acknowledged - ran)},"
        f" executions {kinds['start']} ({dict(attempts)}), run twice at once {kinds['twice']},"
        f" longest wait of a create {max(one.longest for one in creators):.1f} s,"
        f" errors that a create met {sum(one.errors for one in creators)}")  # fmt: skip
    assert acknowledged <= jobs
    assert acknowledged <= ran
    assert kinds["twice"] == 0
