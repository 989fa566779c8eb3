"""Fixtures: a PostgreSQL server for the run, a fresh database with the schema for each test.

Without --postgresql-host the run starts a server of its own and removes it at the end, so several
runs can go on side by side; PERSONA_TEST_PG chooses its version (15, 16, 18, or a folder of
programs).  The schema is installed once, into a template; a test's database is a copy of it.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import forked
import pgtest
import poolertest
import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_postgresql import factories

from persona_pg import migrations

# The owner of the test databases: a role that may create roles, and is no superuser.
OWNER = "persona"
PASSWORD = "persona"
EXTRA_CHECKS = "-c plpgsql.extra_errors=all"


def pytest_addoption(parser):
    parser.addoption("--agents", action="store_true", help="run the tests marked agents, only")
    parser.addoption("--browser", action="store_true", help="run the tests marked browser, only")
    parser.addoption("--soak", action="store_true", help="run the tests marked soak, only")
    parser.addoption("--cluster", action="store_true", help="run those of tests/cluster, only")


def pytest_configure(config):
    # What the developer has configured must not reach the tests.
    for name in list(os.environ):
        ours = name.startswith(("PERSONA_", "PG", "JOB_", "WORKER_", "SUPABASE_", "ALERT_"))
        if ours and not name.startswith("PERSONA_TEST_"):
            del os.environ[name]
    os.environ["PERSONA_ENV_FILE"] = os.devnull
    # A shell without job control lets what it starts in the background ignore it, and so would
    # every program under test; one in a terminal does not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        for name in ("host", "port", "user"):
            setattr(config.option, f"postgresql_{name}", config.workerinput[f"postgresql_{name}"])
        return
    if config.option.postgresql_host or config.option.collectonly:
        return
    server = pgtest.TemporaryServer()
    config.add_cleanup(server.close)
    config.option.postgresql_host = server.host
    config.option.postgresql_port = "5432"
    config.option.postgresql_user = "postgres"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell a worker of pytest-xdist which server to use: options set later do not reach it."""
    for name in ("host", "port", "user"):
        option = f"postgresql_{name}"
        node.workerinput[option] = getattr(node.config.option, option)


def pytest_collection_modifyitems(config, items):
    """Leave out the long lanes, unless one is asked for: then everything else is left out."""
    every = ("agents", "browser", "soak", "cluster")
    lanes = {lane for lane in every if config.getoption(lane)}
    keep, drop = [], []
    for item in items:
        marks = {mark for mark in every if item.get_closest_marker(mark)}
        (keep if (marks & lanes if lanes else not marks) else drop).append(item)
    if drop:
        config.hook.pytest_deselected(items=drop)
        items[:] = keep


# -- databases ---------------------------------------------------------------------------------


def _make_owner(conn):
    # It may be there: an earlier run's on a lasting server, or another worker's just now.
    with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        conn.execute(f"create role {OWNER} login createrole createdb password '{PASSWORD}'")
        conn.execute(f"grant pg_monitor to {OWNER}")


def _install(host, port, user, dbname, password, **_):
    """Make the owner, give it the template database, and install the schema there as the owner."""
    where = {"host": host, "port": port, "dbname": dbname}
    with psycopg.connect(**where, user=user, password=password, autocommit=True) as conn:
        _make_owner(conn)
        conn.execute(
            sql.SQL("alter database {} owner to {}").format(
                sql.Identifier(dbname), sql.Identifier(OWNER)
            )
        )
    migrations.migrate(make_conninfo(**where, user=OWNER, password=PASSWORD))


postgresql_noproc = factories.postgresql_noproc(load=[_install])


class Databases:
    """Makes and drops databases on the test server."""

    def __init__(self, config):
        option = config.option
        self.where = {"host": option.postgresql_host, "port": option.postgresql_port or "5432"}
        self.user = option.postgresql_user or "postgres"
        self.password = option.postgresql_password
        self.admin = psycopg.connect(
            **self.where, user=self.user, password=self.password, dbname="postgres", autocommit=True
        )

    def create(self, template=None, owner=OWNER) -> str:
        name = f"t_{uuid.uuid4().hex[:16]}"
        self.admin.execute(
            sql.SQL("create database {} owner {} template {} strategy file_copy").format(
                *map(sql.Identifier, (name, owner, template or "template0"))
            )
        )
        return name

    def drop(self, name) -> None:
        self.admin.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )

    def dsn(self, name, *, superuser=False, user=None) -> str:
        if superuser:
            return make_conninfo(**self.where, dbname=name, user=self.user, password=self.password)
        return make_conninfo(**self.where, dbname=name, user=user or OWNER, password=PASSWORD)


@pytest.fixture(scope="session")
def databases(pytestconfig):
    found = Databases(pytestconfig)
    yield found
    found.admin.close()


@pytest.fixture
def database(databases, postgresql_noproc):
    """Name of a fresh database that has the schema."""
    name = databases.create(postgresql_noproc.template_dbname)
    yield name
    databases.drop(name)


@pytest.fixture
def dsn(databases, database):
    """Connection string to a fresh database that has the schema, as the schema's owner."""
    return databases.dsn(database)


@pytest.fixture
def superuser_dsn(databases, database):
    """The same database, as a superuser."""
    return databases.dsn(database, superuser=True)


@pytest.fixture
def empty_database(databases):
    """Name of a fresh database without the schema; the owner owns it."""
    _make_owner(databases.admin)
    name = databases.create()
    yield name
    databases.drop(name)


@pytest.fixture
def empty_dsn(databases, empty_database):
    """Connection string to a fresh database without the schema."""
    return databases.dsn(empty_database)


@pytest.fixture(scope="session")
def pooler(databases):
    """Start pgbouncers in front of the test server, once for each set of options."""
    made = {}

    def start(mode="transaction", **options):
        key = (mode, *sorted(options.items()))
        if key not in made:
            made[key] = poolertest.start(databases.where, mode, **options)
        return made[key]

    yield start
    for one in made.values():
        one.close()


@pytest.fixture
def client_dsn(dsn, request):
    """Connection string of the programs under test, runners excepted.

    PERSONA_TEST_POOLER (transaction or session) leads it through a pgbouncer of that mode.
    """
    mode = os.environ.get("PERSONA_TEST_POOLER")
    return request.getfixturevalue("pooler")(mode).dsn(dsn) if mode else dsn


@pytest.fixture
def told():
    """For tests of programs that are told of changes: skip where they can only ask."""
    if not pgtest.IS_TOLD:
        pytest.skip("behind a pooler in transaction mode nobody is told")


@pytest.fixture
def connect(dsn):
    """Make autocommit connections to the test's database; the name shows in pg_stat_activity."""
    opened = []

    def make(name="test", **options):
        options = {"autocommit": True, "options": EXTRA_CHECKS} | options
        opened.append(psycopg.connect(dsn, application_name=name, **options))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def conn(connect):
    """An autocommit connection as the schema's owner."""
    return connect()


@pytest.fixture
def wait_until_blocked(databases, database):
    """Wait until the session of that name waits for a lock."""

    def wait(name, timeout=5.0):
        pgtest.eventually(
            lambda: databases.admin.execute(
                "select 1 from pg_stat_activity where datname = %s"
                " and application_name = %s and wait_event_type = 'Lock'",
                (database, name),
            ).fetchone(),
            timeout,
            interval=0.005,
            what=f"session {name} waits for a lock",
        )

    return wait


@pytest.fixture
def private_server():
    """Start servers of the test's own, to be crashed: the schema is in database persona.

    Returns a function (options) -> TemporaryServer with the attributes dsn and server; use
    server.control("restart", "-m", "immediate", "-w").
    """
    made = []

    def make(options=None, bin_directory=None):
        server = pgtest.TemporaryServer(options, bin_directory)
        made.append(server)
        with psycopg.connect(
            host=server.host, user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            admin.execute(f"create role {OWNER} login createrole createdb")
            admin.execute(f"create database persona owner {OWNER}")
        server.dsn = make_conninfo(host=server.host, port="5432", user=OWNER, dbname="persona")
        migrations.migrate(server.dsn)
        return server

    yield make
    for server in made:
        server.close()


# -- programs ----------------------------------------------------------------------------------


@pytest.fixture
def eventually():
    """Poll until a condition holds, with a deadline."""
    return pgtest.eventually


@pytest.fixture
def home(tmp_path):
    """A fresh PERSONA_HOME."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def persona_env(home, tmp_path, request):
    """The whole environment of the programs under test; a test may add to it.

    The database is the test's own, unless the test asks for none (marker no_database).
    """
    # PERSONA_TEST_AGENTS is where bin/test --agents has put the real agent programs.
    agents = request.node.get_closest_marker("agents")
    folders = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    if agents and (extra := os.environ.get("PERSONA_TEST_AGENTS")):
        folders.insert(0, extra)
    env = {
        "PATH": os.pathsep.join(folders),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "PERSONA_HOME": str(home),
        "PERSONA_ENV_FILE": os.devnull,
        "PYTHONFAULTHANDLER": "1",
    }
    if not request.node.get_closest_marker("no_database"):
        env["PERSONA_DATABASE_URL"] = request.getfixturevalue("client_dsn")
    return env


@pytest.fixture
def run_program(persona_env):
    """Run a program as a subprocess with the test's environment: (argv, input=, env=, ...)."""

    def run(*argv, input=None, env=None, timeout=60, text=True, cwd=None):  # noqa: A002
        return subprocess.run(
            [str(part) for part in argv],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=text,
            timeout=timeout,
            check=False,
            cwd=cwd,
            env=persona_env | (env or {}),
        )

    return run


@pytest.fixture
def run_own(persona_env, run_program):
    """Run a program of ours as a subprocess with the test's environment: (name, arguments, ...)."""

    def run(name, *arguments, env=None, **options):
        if any(key.startswith(("LANG", "LC_", "PYTHON")) for key in env or ()):
            # What Python reads of these when it starts is part of the test.
            program = Path(sys.executable).with_name(name)
            return run_program(program, *arguments, env=env, **options)
        return forked.run(name, *arguments, env=persona_env | (env or {}), **options)

    return run


@pytest.fixture
def cli(run_own):
    """Run `persona` with arguments; returns a CompletedProcess with text."""

    return functools.partial(run_own, "persona")


@pytest.fixture
def worker(persona_env, home, tmp_path, dsn):
    """Start real `persona-worker` processes; at the end nothing of them may be left."""
    program = shutil.which("persona-worker", path=str(Path(sys.executable).parent))
    started = []

    def start(*arguments, env=None, launcher=()):
        log = tmp_path / f"worker-{len(started)}.log"
        argv = [*launcher, program or "persona-worker", *map(str, arguments)]
        direct = {"PERSONA_DATABASE_URL": dsn} if "PERSONA_DATABASE_URL" in persona_env else {}
        started.append(pgtest.WorkerProcess(argv, persona_env | direct | (env or {}), log))
        return started[-1]

    yield start

    for one in started:
        one.stop()
    if not started:
        return
    with psycopg.connect(dsn, autocommit=True) as connection:
        ids = [row[0] for row in connection.execute("select id from persona.jobs")]
    # A guardian may need a moment to finish what it is doing.
    deadline = time.monotonic() + 5
    while (left := pgtest.processes_of(home, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = []
    for process in left:
        with suppress(psutil.Error):  # it has ended by itself
            seen.append(f"{process.pid}: {' '.join(process.cmdline())}")
            process.kill()
    logs = "\n".join(one.output()[-2000:] for one in started)
    assert not seen, f"left behind: {seen}\n{logs}"
