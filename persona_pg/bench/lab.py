"""The place where it is measured: databases of its own on the user's server, dropped afterwards.

Nothing of the user's schema is read or written.  The role needs CREATEDB.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persona_pg import connections, migrations
from persona_pg.embedded import wheel_programs
from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persona_pg.database import Connection

AGENT = "bench"
_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


class Lab:
    """A scratch database with the schema, and the programs to drive it with."""

    def __init__(self, dsn: str, *, keep: bool = False, name: str | None = None) -> None:
        self._dsn = dsn
        self._keep = keep
        self._made: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="persona-bench-"))
        self.name = name or f"persona_bench_{os.getpid()}"
        self.dsn = ""

    def __enter__(self) -> Self:
        try:
            self.dsn = self.make_database(self.name)
            migrations.migrate(self.dsn)
            with self.connect() as conn:
                conn.execute(
                    "select name from persona.register_agent(%s, argv => '{true}')", (AGENT,)
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._keep:
            return
        with self._server() as conn:
            for name in self._made:
                conn.execute(
                    sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
                )

    def beside(self, suffix: str) -> Lab:
        """Return another place of the same kind on the same server, to be entered."""
        return Lab(self._dsn, keep=self._keep, name=f"{self.name}_{suffix}")

    def make_database(self, name: str) -> str:
        """Make an empty database beside the user's; returns its connection string."""
        with self._server() as conn:
            try:
                # From template0: what somebody put into template1 is none of our business.
                conn.execute(
                    sql.SQL("create database {} template template0 encoding 'UTF8'").format(
                        sql.Identifier(name)
                    )
                )
            except psycopg.errors.InsufficientPrivilege:
                raise ConfigurationError(
                    "persona bench measures in a database of its own, and this role may not make"
                    " one: alter role ... createdb, or use a server where it may"
                ) from None
        self._made.append(name)
        return make_conninfo(self._dsn, dbname=name)

    @contextmanager
    def _server(self) -> Iterator[Connection]:
        with psycopg.connect(self._dsn, **connections.connection_kwargs(self._dsn)) as conn:
            yield conn

    def connect(self, dsn: str | None = None, **options: Any) -> Connection:
        """Open a connection to the scratch database."""
        target = dsn or self.dsn
        kwargs = connections.connection_kwargs(target, application_name="persona-bench")
        return psycopg.connect(target, **(kwargs | options))

    def environment(self) -> dict[str, str]:
        """Return what the programs under measurement get: the scratch database."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        bin_folder = str(Path(sys.executable).parent)
        return {
            **kept,
            "PATH": f"{bin_folder}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "PERSONA_HOME": str(self.folder),
            "PERSONA_DATABASE_URL": self.dsn,
        }

    def libpq_environment(self, dsn: str | None = None) -> dict[str, str]:
        """Return PG* variables for the programs of PostgreSQL: no password in their arguments."""
        names = {
            "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER",
            "password": "PGPASSWORD", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE",
        }  # fmt: skip
        parts = conninfo_to_dict(dsn or self.dsn)
        given = {names[key]: str(value) for key, value in parts.items() if key in names}
        return {**os.environ, **given}

    def machine(self) -> dict[str, str]:
        """Describe the machine and the server: figures without them mean nothing."""
        with self.connect() as conn:
            (version,) = conn.execute("show server_version").fetchone() or ("?",)
            found = {
                name: (conn.execute("select current_setting(%s)", (name,)).fetchone() or ("?",))[0]
                for name in _SETTINGS
            }
        return {
            "cpus": str(os.cpu_count()),
            "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "postgresql": str(version),
            **{name: str(value) for name, value in found.items()},
        }


def program(name: str, *, is_wheel_last: bool = False) -> str | None:
    """Find a program of PostgreSQL: the embedded wheel's, else the system's; or the other way."""
    folder = wheel_programs()
    wheel = str(folder / name) if folder is not None and (folder / name).exists() else None
    system = _system_program(name)
    return (system or wheel) if is_wheel_last else (wheel or system)


def _system_program(name: str) -> str | None:
    """Find it on PATH, else Debian's newest; /usr/bin has a script that starts one of those."""
    found = shutil.which(name)
    if found is not None and found != f"/usr/bin/{name}":
        return found
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(candidates[-1]) if candidates else found


def pgbench(
    lab: Lab, script: str, *, clients: int, seconds: float, define: dict[str, str] | None = None
) -> float:
    """Run a script with so many clients for so long; returns transactions a second."""
    path = program("pgbench")
    if path is None:
        raise ConfigurationError(
            "pgbench was not found: install PostgreSQL's client programs,"
            " or pip install 'persona-pg[embedded]', which brings it"
        )
    file = lab.folder / "script.sql"
    file.write_text(script)
    command = [
        path, "-n", "-M", "prepared", "-f", str(file), "-T", str(max(1, round(seconds))),
        "-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1)),
    ]  # fmt: skip
    for name, value in (define or {}).items():
        command += ["-D", f"{name}={value}"]
    done = subprocess.run(
        command, env=lab.libpq_environment(), capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-500:]}")
