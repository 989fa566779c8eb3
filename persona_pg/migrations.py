r"""Installs and upgrades the schema: the files and the order of `psql -f db/install.sql`.

install.sql is the only list.  Read here are its SQL and four psql commands: \set migration NAME
followed by \ir _apply_migration.sql (a migration, which runs once), \ir or \i FILE (which runs
every time), and \echo.  Everything else that psql could do is refused, so that the two doors
cannot come to mean different things.

One install is one transaction: either everything is new, or nothing.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel

from persona_pg.errors import (
    ConfigurationError,
    PersonaError,
    SchemaTooNew,
    TryLater,
    one_line,
    translated,
)
from persona_pg.resources import db_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MACRO = "_apply_migration.sql"
_DEADLOCKS = 5
# A database's or a role's own settings must not change what the files mean.
PRELUDE = """\
set local search_path = pg_catalog, pg_temp;
set local check_function_bodies = off;
set local client_min_messages = notice;
set local standard_conforming_strings = on;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
set local lock_timeout = '5s';
"""


class SchemaChanged(ConfigurationError, exit_code=78):
    """A migration that the database has was edited afterwards."""


@dataclass(frozen=True)
class Step:
    """A piece of the install: a migration, a file, or SQL from install.sql itself."""

    name: str
    text: str
    is_migration: bool = False

    @property
    def is_contract(self) -> bool:
        """Tell whether it takes away what older runners need: see persona._may_apply."""
        return self.is_migration and re.match(r"\d{4}_contract_\d+_", self.name) is not None

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the file, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Status:
    """What a database has, beside what this package brings."""

    version: int
    applied: list[str]
    pending: list[str]
    unknown: list[str]
    changed: list[str]
    # Functions that are not what the files say, and functions that no file makes; both are None
    # where they could not be compared, and then `note` says why.
    drifted: list[str] | None = None
    orphaned: list[str] | None = None
    note: str | None = None

    @property
    def is_current(self) -> bool:
        """Tell whether a migrate would change nothing."""
        lists = (self.pending, self.unknown, self.changed, self.drifted, self.orphaned)
        return not any(lists)


@dataclass
class Outcome:
    """What one migrate did, and what it left for later because of older runners."""

    applied: list[str] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)
    version: int = 0


def read_steps(directory: Path | None = None) -> list[Step]:
    """Read db/install.sql and every file it names, in order."""
    root = db_directory() if directory is None else directory
    steps = list(_read_script(root / "install.sql", root, {}))
    for kind, names in (
        ("migration", [step.name for step in steps if step.is_migration]),
        ("file", [step.name for step in steps if not step.is_migration and step.name]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"install.sql names the {kind} {', '.join(twice)} twice")
    return steps


def migrate(
    conninfo: str,
    *,
    directory: Path | None = None,
    notice: Callable[[str], None] | None = None,
) -> Outcome:
    """Install or upgrade the schema; doing it again changes nothing.

    Where jobs flow, a call that holds one table and waits for another may deadlock with this
    transaction; the server ends either, and what it undoes here is done again.
    """
    steps = read_steps(directory)
    for _ in range(_DEADLOCKS):
        try:
            return _migrate(conninfo, steps, notice)
        except TryLater as exc:
            if not isinstance(exc.__cause__, psycopg.errors.DeadlockDetected):
                raise
            if notice is not None:
                notice("a running call was in the way; once more")
    return _migrate(conninfo, steps, notice)


def _migrate(conninfo: str, steps: list[Step], notice: Callable[[str], None] | None) -> Outcome:
    outcome = Outcome()
    with translated(), session(conninfo, notice) as conn, conn.transaction():
        conn.execute(PRELUDE)
        recorded: dict[str, str | None] | None = None
        for step in steps:
            if not step.is_migration:
                run_step(conn, step)
                continue
            if recorded is None:
                # By now install.sql has taken the lock, so nobody adds to this list.
                recorded = _recorded(conn)
                _refuse_strangers(steps, recorded)
            if step.name in recorded:
                if recorded[step.name] is None:
                    _record_checksum(conn, step)  # psql applied it, and psql cannot hash
                continue
            if not _may_apply(conn, step):
                outcome.postponed.append(step.name)
                continue
            run_step(conn, step)
            conn.execute(
                "insert into persona.schema_migrations (name, checksum) values (%s, %s)",
                (step.name, step.checksum),
            )
            outcome.applied.append(step.name)
        outcome.version = sum(step.is_migration for step in steps) - len(outcome.postponed)
    return outcome


def status(conninfo: str, *, directory: Path | None = None) -> Status:
    """Compare a database with this package; nothing is changed."""
    steps = read_steps(directory)
    ours = {step.name: step for step in steps if step.is_migration}
    with translated(), session(conninfo, None) as conn:
        with conn.transaction(force_rollback=True):
            conn.execute(PRELUDE)
            recorded = _recorded(conn)
        pending = [name for name in ours if name not in recorded]
        unknown = [name for name in recorded if name not in ours]
        base = Status(
            version=len(recorded),
            applied=list(recorded),
            pending=pending,
            unknown=unknown,
            changed=_changed(ours, recorded),
        )
        if pending or unknown:
            return base
        return _compare_functions(conn, steps, base)


def dump_sql(directory: Path | None = None) -> str:
    """Return the whole install as one script of plain SQL, for any client; it may be run again."""
    parts = [
        "-- Persona PG, the whole schema: run it as it is, also over an older version.\n",
        "begin isolation level read committed;\n",
        PRELUDE,
    ]
    for step in read_steps(directory):
        title = f"\n-- {step.name}\n" if step.name else "\n"
        if not step.is_migration:
            parts.append(title + step.text.rstrip() + "\n")
            continue
        parts.append(title + _run_once(step))
    parts.append("\ncommit;\n")
    return "".join(parts)


# -- reading install.sql -----------------------------------------------------------------------


def _read_script(path: Path, root: Path, variables: dict[str, str]) -> Iterator[Step]:
    """Split a psql script at its commands; each piece of SQL between them is a step."""
    pending: list[str] = []
    relative = path.relative_to(root).as_posix()

    def flush() -> Iterator[Step]:
        text = "".join(pending)
        pending.clear()
        if _has_statement(text):
            yield Step("", text)

    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        word = line.strip()
        if not word.startswith("\\"):
            # The transaction is ours, here as in dump_sql.
            if re.fullmatch(r"(begin|commit)\b[^;]*;", word.split("--")[0].strip(), re.IGNORECASE):
                continue
            pending.append(line)
            continue
        yield from flush()
        command, *arguments = word.split()
        if command == "\\set" and len(arguments) >= 1:
            variables[arguments[0]] = " ".join(arguments[1:]).strip("'")
        elif command in {"\\ir", "\\i"} and len(arguments) == 1:
            file = path.parent / arguments[0]
            if arguments[0] == _MACRO:
                name = variables.get("migration", "")
                text = (root / "migrations" / name).read_text(encoding="utf-8")
                yield Step(name, text, is_migration=True)
            else:
                name = file.relative_to(root).as_posix()
                yield Step(name, file.read_text(encoding="utf-8"))
        elif command not in {"\\echo", "\\unset", "\\pset", "\\encoding"}:
            raise ConfigurationError(f"{relative}, line {number}: not understood: {word}")
    yield from flush()


def _has_statement(text: str) -> bool:
    """Tell whether anything but comments and blanks is in a piece of SQL."""
    return re.sub(r"--[^\n]*", "", text).strip() != ""


# -- running -----------------------------------------------------------------------------------


@contextmanager
def session(
    conninfo: str, notice: Callable[[str], None] | None
) -> Iterator[psycopg.Connection[Any]]:
    """Connect for an install; what the files and the server say goes to *notice*."""
    # No prepared statements, so that a pooler in between does no harm.
    with psycopg.connect(
        conninfo, autocommit=True, prepare_threshold=None, application_name="persona db"
    ) as conn:
        # The lock must show what the one before us committed: no frozen snapshot.
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        if notice is not None:
            say = notice

            def hear(diag: psycopg.errors.Diagnostic) -> None:
                # What the files say themselves, and warnings; not "exists, skipping".
                if diag.sqlstate == "00000" or diag.severity_nonlocalized == "WARNING":
                    say(one_line(diag.message_primary or ""))

            conn.add_notice_handler(hear)
        yield conn


def run_step(conn: psycopg.Connection[Any], step: Step) -> None:
    """Run a file as it stands; an error says which file, and where in it."""
    try:
        # Without parameters psycopg sends the text whole, and a percent sign is just that.
        conn.execute(step.text.encode())
    except psycopg.Error as exc:
        place = step.name or "install.sql"
        if exc.diag.statement_position:
            position = int(exc.diag.statement_position)
            place += f", line {step.text.count(chr(10), 0, position) + 1}"
        exc.add_note(place)
        if exc.sqlstate in {"42501", "55P03", "40P01"} or exc.sqlstate is None:
            raise  # a matter of rights, of locks or of the connection, not of the file
        message = one_line(exc.diag.message_primary or str(exc))
        raise PersonaError(f"{place}: {message}", hint=exc.diag.message_hint) from exc


def _recorded(conn: psycopg.Connection[Any]) -> dict[str, str | None]:
    """Return name and checksum of every migration the database has."""
    found = conn.execute("select pg_catalog.to_regclass('persona.schema_migrations')").fetchone()
    if found is None or found[0] is None:
        return {}
    rows = conn.execute("select m.name, m.checksum from persona.schema_migrations as m order by 1")
    return dict(rows.fetchall())


def _may_apply(conn: psycopg.Connection[Any], step: Step) -> bool:
    """Ask the schema, as the door of psql does; by their names, most may."""
    if not step.is_contract:
        return True
    row = conn.execute("select persona._may_apply(%s)", (step.name,)).fetchone()
    return row is not None and bool(row[0])


def _record_checksum(conn: psycopg.Connection[Any], step: Step) -> None:
    conn.execute(
        "update persona.schema_migrations as m set checksum = %s"
        " where m.name = %s and m.checksum is null",
        (step.checksum, step.name),
    )


def _changed(ours: dict[str, Step], recorded: dict[str, str | None]) -> list[str]:
    return [
        name
        for name, checksum in recorded.items()
        if name in ours and checksum is not None and checksum != ours[name].checksum
    ]


def _refuse_strangers(steps: list[Step], recorded: dict[str, str | None]) -> None:
    """Refuse a database that has what we do not know, or that we knew differently."""
    ours = {step.name: step for step in steps if step.is_migration}
    unknown = [name for name in recorded if name not in ours]
    if unknown:
        raise SchemaTooNew(
            f"the database's schema is newer than this package: it has {', '.join(unknown)}",
            detail={"unknown": unknown},
            hint="upgrade persona-pg on this machine",
        )
    changed = _changed(ours, recorded)
    if changed:
        raise SchemaChanged(
            f"the database has another version of the migration {', '.join(changed)}:"
            " a migration must not be edited once it has been applied",
            detail={"changed": changed},
            hint="restore the file; put the change into a new migration",
        )


def _compare_functions(conn: psycopg.Connection[Any], steps: list[Step], base: Status) -> Status:
    """Put the files' functions over the live ones, see what that changes, and take it back."""
    files = [step for step in steps if not step.is_migration and "functions/" in step.name]
    fields = {k: getattr(base, k) for k in ("version", "applied", "pending", "unknown", "changed")}
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(PRELUDE + "set local lock_timeout = '1s'; set client_min_messages = error")
            before = _functions(conn)
            for step in files:
                conn.execute(step.text.encode())
            after = _functions(conn)
            made_here = {
                row[0]
                for row in conn.execute(
                    "select p.oid::pg_catalog.regprocedure::text from pg_catalog.pg_proc as p"
                    " where p.pronamespace = 'persona'::pg_catalog.regnamespace"
                    " and p.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid"
                )
            }
    except psycopg.Error as exc:
        note = f"functions not compared: {one_line(exc.diag.message_primary or str(exc))}"
        return Status(**fields, note=note)
    differing = [name for name in after if before.get(name) != after[name]]
    orphaned = [name for name in before if name not in made_here and name in after]
    return Status(**fields, drifted=sorted(differing), orphaned=sorted(orphaned))


def _functions(conn: psycopg.Connection[Any]) -> dict[str, str]:
    rows = conn.execute(
        "select p.oid::pg_catalog.regprocedure::text,"
        " pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))"
        " from pg_catalog.pg_proc as p"
        " where p.pronamespace = 'persona'::pg_catalog.regnamespace and p.prokind in ('f', 'p')"
    )
    return dict(rows.fetchall())


def _run_once(step: Step) -> str:
    """Write a migration as SQL that does nothing the second time."""
    tag = _free_tag(step.text)
    name = step.name.replace("'", "''")
    condition = f"not exists (select from persona.schema_migrations as m where m.name = '{name}')"
    if step.is_contract:
        condition = f"(case when {condition} then persona._may_apply('{name}') else false end)"
    return (
        f"do {tag}_do$\nbegin\n  if {condition} then\n"
        f"    execute {tag}$\n{step.text.rstrip()}\n{tag}$;\n"
        "    insert into persona.schema_migrations (name, checksum)\n"
        f"    values ('{name}', '{step.checksum}');\n"
        f"  end if;\nend {tag}_do$;\n"
    )


def _free_tag(text: str) -> str:
    """Return the opening of a dollar quote that the text does not contain."""
    tag = "$migration"
    while tag in text:
        tag += "_"
    return tag
