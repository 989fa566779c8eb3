"""Takes functions and views back to what an earlier tree of the schema has under their names.

Tables only ever grow, so what an earlier release's functions need is still there.  Grants, data
and all else stay.  One transaction, under the lock of the installs; `persona db migrate` is the
way forward again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import migrations
from persona_pg.errors import ConfigurationError, PersonaError, one_line, translated
from persona_pg.resources import db_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# An object with another shape (result of a function, columns of a view) can only be made anew.
_OTHER_SHAPE = (psycopg.errors.InvalidFunctionDefinition, psycopg.errors.InvalidTableDefinition)
_ROLES = "roles.sql"
_LOCK = "do $$ begin perform pg_advisory_xact_lock(hashtext('persona.install'), 0); end $$;"


def take_back(
    conninfo: str,
    tree: Path,
    names: Sequence[str],
    *,
    notice: Callable[[str], None] | None = None,
) -> list[str]:
    """Install the named functions and views as *tree* has them; returns the names of the files.

    A name is that of a function or view, or of its file in *tree*.
    """
    root = tree / "db" if (tree / "db" / "install.sql").is_file() else tree
    if not (root / "install.sql").is_file():
        raise ConfigurationError(f"{tree}: there is no db/install.sql in that folder")
    steps = migrations.read_steps(root)
    files = [step for step in steps if "/" in step.name and not step.is_migration]
    known = {step.name: step for step in files} | {_stem(step): step for step in files}
    wanted = [name.removeprefix("db/") for name in names]
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigurationError(f"{tree} has no function or view {', '.join(unknown)}")
    files = [known[name] for name in wanted]
    there = {step.name for step in steps}
    later = [m for m in migrations.read_steps() if m.is_migration and m.name not in there]
    with translated(), migrations.session(conninfo, notice) as conn, conn.transaction():
        conn.execute(migrations.PRELUDE + _LOCK)
        for step in files:
            _put_back(conn, step)
            _refuse_other_type(conn, step, later)
        # What is made anew has no owner and grants of its own yet. The list is this package's: a
        # function goes back, the tenants' walls do not.
        roles = db_directory() / _ROLES
        migrations.run_step(conn, migrations.Step(_ROLES, roles.read_text(encoding="utf-8")))
    return [step.name for step in files]


def _refuse_other_type(
    conn: psycopg.Connection[Any], step: migrations.Step, later: Sequence[migrations.Step]
) -> None:
    """Refuse a function that fills a type which has changed since: each call of it would fail."""
    rows = conn.execute(
        "select c.relname from pg_catalog.pg_proc as p"
        " join pg_catalog.pg_class as c on c.reltype = p.prorettype and c.relkind = 'c'"
        " where p.pronamespace = 'persona'::pg_catalog.regnamespace and p.proname = %s",
        (_stem(step),),
    )
    for (name,) in rows.fetchall():
        for migration in later:
            if f"alter type persona.{name}" in migration.text:
                raise PersonaError(
                    f"{step.name} cannot be taken back: it returns {name},"
                    f" which {migration.name} has changed"
                )


def _put_back(conn: psycopg.Connection[Any], step: migrations.Step) -> None:
    try:
        with conn.transaction():
            before = _versions(conn, step)
            conn.execute(step.text.encode())
            # Of the same name, but not made by the file: a call would fit both.
            for signature, version in _versions(conn, step).items():
                if before.get(signature) == version:
                    conn.execute(f"drop function {signature}")
    except _OTHER_SHAPE:
        try:
            with conn.transaction():
                _drop(conn, step)
                conn.execute(step.text.encode())
        except psycopg.errors.DependentObjectsStillExist as exc:
            raise PersonaError(
                f"{step.name} cannot be taken back: {one_line(exc.diag.message_detail or '')}",
                hint="take back what depends on it first",
            ) from exc


def _drop(conn: psycopg.Connection[Any], step: migrations.Step) -> None:
    """Drop what has the file's name; fails where something depends on it."""
    if step.name.startswith("views/"):
        conn.execute(f"drop view persona.{_stem(step)}")
    for signature in _versions(conn, step):
        conn.execute(f"drop function {signature}")


def _versions(conn: psycopg.Connection[Any], step: migrations.Step) -> dict[str, str]:
    """Return the functions of the file's name, each with what changes when it is replaced."""
    rows = conn.execute(
        "select p.oid::pg_catalog.regprocedure::text, p.xmin::text from pg_catalog.pg_proc as p"
        " where p.pronamespace = 'persona'::pg_catalog.regnamespace and p.proname = %s",
        (_stem(step),),
    )
    return dict(rows.fetchall())


def _stem(step: migrations.Step) -> str:
    return step.name.rpartition("/")[2].removesuffix(".sql")
