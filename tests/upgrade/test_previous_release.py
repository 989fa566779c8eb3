"""The release before this one: its schema upgraded, its runner on ours, ours on its schema."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from pgtest import eventually

from persona_pg import migrations

# Creates jobs until standard input ends; says each id once it has been acknowledged. A call that was
# planned for a table to which the upgrade then adds a column may be refused ("refused" is said);
# repeated with its id, as any create may be, it goes through.
CREATOR = """
import select, sys, uuid
import psycopg
from persona_pg.database import Database
from persona_pg.queue import Queue
with Database(sys.argv[1]) as database:
    queue = Queue(database)
    def create(id):
        argv = ["sh", "-c", "echo $PERSONA_JOB_ID >> " + sys.argv[2]]
        return queue.create_job("command", {"argv": argv}, id=id)
    while not select.select([sys.stdin], [], [], 0.03)[0]:
        id = uuid.uuid4()
        try:
            job = create(id)
        except psycopg.errors.DatatypeMismatch:
            print("refused", flush=True)
            job = create(id)
        print(job.id, flush=True)
"""


@pytest.fixture
def previous_conn(previous_dsn):
    with psycopg.connect(previous_dsn, autocommit=True) as conn:
        yield conn


def test_its_schema_upgraded_is_what_a_new_install_makes(previous_dsn, dsn):
    migrations.migrate(previous_dsn)

    assert migrations.status(previous_dsn).is_current
    rows = (
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull"
        " from pg_class as c join pg_attribute as a on a.attrelid = c.oid"
        " where c.relnamespace = 'persona'::regnamespace and a.attnum > 0 and not a.attisdropped"
        " and not c.relispartition and c.relname !~ '^job_logs_' order by 1, 2"
    )
    with psycopg.connect(previous_dsn) as upgraded, psycopg.connect(dsn) as new:
        assert upgraded.execute(rows).fetchall() == new.execute(rows).fetchall()


def test_todays_runner_refuses_its_schema_and_says_what_to_do(worker, previous_dsn):
    one = worker("--once", env={"PERSONA_DATABASE_URL": previous_dsn})
    assert one.wait() == 78
    assert "persona db migrate" in one.output()


class World:
    """Creators and runners at work on a database that is upgraded under them."""

    def __init__(self, previous, dsn, worker, folder):
        self.previous, self.dsn, self.folder = previous, dsn, folder
        self.history = folder / "history"
        self.history.touch()
        self.acknowledged = []
        self.refused = []
        self._worker = worker
        self._creators = [previous.python(CREATOR, dsn, self.history) for _ in range(2)]
        self._ears = [threading.Thread(target=self._hear, args=(one,)) for one in self._creators]
        for one in self._ears:
            one.start()

    def _hear(self, creator):
        for line in creator.stdout:
            (self.refused if line == "refused\n" else self.acknowledged).append(line.strip())

    def start(self, *names, environ):
        started = [
            self._worker("--name", name, "-c", 4, env={"PERSONA_DATABASE_URL": self.dsn} | environ)
            for name in names
        ]
        for one in started:
            eventually(lambda one=one: " is ready: " in one.output(), 60, what=one.output)
        return started

    def more(self, count):
        """Wait until that many more jobs are acknowledged; return how many there are."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, 60)
        return len(self.acknowledged)

    def migrate(self):
        program = Path(sys.executable).with_name("persona")
        for _ in range(5):
            done = subprocess.run(
                [program, "db", "migrate"],
                env={"PERSONA_DATABASE_URL": self.dsn, "PERSONA_HOME": str(self.folder)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode != 75:  # a lock that could not be had: later, it says
                break
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop_creating(self):
        for one in self._creators:
            one.stdin.close()
            assert one.wait(60) == 0
        for one in self._ears:
            one.join()
        for one in self._creators:
            one.stdout.close()


def test_an_upgrade_under_load_with_its_runners_and_clients_loses_nothing(
    previous, previous_conn, worker, tmp_path, capsys
):
    conn = previous_conn
    world = World(previous, conn.info.dsn, worker, tmp_path)
    old = world.start("old-1", "old-2", environ=previous.environ)
    before = world.more(50)
    assert "applied" in world.migrate()
    during = world.more(50)
    (new,) = world.start("new", environ={})
    drained = conn.execute("select persona.drain_outdated_runners()").fetchall()
    assert [one.wait(60) for one in old] == [0, 0]
    world.more(50)
    world.stop_creating()

    ended = "select status, count(*) from persona.jobs group by 1"
    eventually(lambda: [r[0] for r in conn.execute(ended)] == ["completed"], 60, what=new.output)
    acknowledged = set(world.acknowledged)
    jobs = Counter(str(r[0]) for r in conn.execute("select id from persona.jobs"))
    runs = Counter(world.history.read_text().split())
    by_runner = dict(
        conn.execute(
            "select r.name, count(*) from persona.job_attempts as a"
            " join persona.runners as r on r.id = a.runner_id group by 1 order by 1"
        ).fetchall()
    )
    with capsys.disabled():
        print(f"\nupgrade from {previous.name}: {len(acknowledged)} jobs acknowledged ({before} before,"
              f" {during - before} during, {len(acknowledged) - during} after), {len(jobs)} in the table,"
              f" {len(world.refused)} creates refused and repeated, {runs.total()} executions,"
              f" lost {len(acknowledged - set(runs))},"
              f" twice {sum(n > 1 for n in runs.values())}; by runner: {by_runner}")  # fmt: skip
    assert drained == [("old-1",), ("old-2",)]
    assert acknowledged == set(jobs)
    assert runs == jobs
    assert set(by_runner) == {"old-1", "old-2", "new"}
    assert new.process.poll() is None
