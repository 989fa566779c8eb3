"""persona-migrate: takes over the first system's files, database and bridge."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from persona_pg.cli import edge, output
from persona_pg.cli.app import App, pass_app
from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.first_system.importer import Importer
    from persona_pg.first_system.report import Report

_Command = Any


def _root_option(command: _Command) -> _Command:
    return click.option(
        "-p", "--persona-root", type=click.Path(path_type=Path), metavar="DIR",
        help="Folder of the first system; else PERSONA_ROOT.",
    )(command)  # fmt: skip


def _dry_run_option(command: _Command) -> _Command:
    return click.option(
        "--dry-run", is_flag=True, help="Report what would be done, and change nothing."
    )(command)


def _requeue_option(command: _Command) -> _Command:
    return click.option(
        "--requeue", is_flag=True,
        help="What waited goes into the queue at once; else it is held until persona release.",
    )(command)  # fmt: skip


def _import_options(command: _Command) -> _Command:
    business = click.option(
        "--business", help="Only this instance; else all, PERSONA_BUSINESS first."
    )
    for option in (output.json_option, _dry_run_option, business, _root_option):
        command = option(command)
    return command


@click.group(
    "persona-migrate",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Take over what the first system has: files, database, bridge.

    Everything may be run again: what is there already stays as it is.  Nothing of the first
    system is changed or removed; the commands that end its schedules are printed.
    """
    if context.invoked_subcommand is None:
        output.put(context.get_help())


@cli.command("migrate-all")
@_import_options
@_requeue_option
@pass_app
def migrate_all(app: App, /, **options: Any) -> None:
    """Import everything below the folder: agents, schedules, routes, history, what waits."""

    def work(importer: Importer) -> None:
        importer.agents()
        importer.schedules()
        importer.routes()
        importer.executions()
        importer.waiting()

    _import(app, work, **options)


@cli.command("executions")
@_import_options
@pass_app
def executions(app: App, /, **options: Any) -> None:
    """Import what ran: executions.json and running-agents.json."""
    _import(app, lambda importer: importer.executions(), **options)


@cli.command("pending-notes")
@_import_options
@_requeue_option
@pass_app
def pending_notes(app: App, /, **options: Any) -> None:
    """Import what waits: pending-notes.json and queue.json."""
    _import(app, lambda importer: importer.waiting(), **options)


@cli.command("agents")
@_import_options
@pass_app
def agents(app: App, /, **options: Any) -> None:
    """Import agents/*.md with their actions, and config/schedules.yaml."""

    def work(importer: Importer) -> None:
        importer.agents()
        importer.schedules()

    _import(app, work, **options)


@cli.command("notes")
@_import_options
@pass_app
def notes(app: App, /, **options: Any) -> None:
    """Import which heading of a daily note belongs to whom (config/env.md)."""
    _import(app, lambda importer: importer.routes(), **options)


@cli.command("database")
@click.option(
    "--from", "source", required=True, metavar="DSN",
    help="The old database; '-' reads the address from standard input.",
)  # fmt: skip
@click.option("--schema", default="public", show_default=True, help="Where its tables are.")
@click.option("--business", help="The instance its jobs belong to; else PERSONA_BUSINESS.")
@_dry_run_option
@_requeue_option
@output.json_option
@pass_app
def database(
    app: App, *, source: str, schema: str, business: str | None, dry_run: bool, requeue: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Import jobs, job_logs and agents of the first system's database (Supabase).

    Old short ids stay valid.  Only reads there; a batch at a time, so its size does not matter.
    """
    from persona_pg.first_system.database import DatabaseImport, OldDatabase

    dsn = sys.stdin.readline().strip() if source == "-" else source
    work = DatabaseImport(
        app.queue.database,
        OldDatabase(dsn, schema),
        business=business or app.settings.business,
        dry_run=dry_run,
        requeue=requeue,
        on_progress=_progress,
    )
    work.run()
    if sys.stderr.isatty():
        click.echo(err=True)
    _tell(work.report, [], dry_run=dry_run, as_json=as_json)


@cli.command("install-bridge")
@_root_option
@_dry_run_option
@click.option("--undo", is_flag=True, help="Bring back the file that was there before.")
@pass_app
def install_bridge(app: App, *, persona_root: Path | None, dry_run: bool, undo: bool) -> None:
    """Put a shim in place of PERSONA_ROOT/python/persona/bridge.py.

    Scripts that call it reach this queue then; the old file is kept beside it as bridge.py.orig.
    """
    from persona_pg.first_system import bridge

    act = bridge.undo if undo else bridge.install
    output.put(act(_root(app, persona_root), dry_run=dry_run))


def _import(
    app: App,
    work: Callable[[Importer], None],
    *,
    persona_root: Path | None,
    business: str | None,
    dry_run: bool,
    as_json: bool,
    requeue: bool = False,
) -> None:
    from persona_pg.first_system import leftovers, schedules
    from persona_pg.first_system.importer import Importer

    root = _root(app, persona_root)
    home = Path(os.environ.get("HOME") or "~").expanduser()
    left = leftovers.find(root, app.settings.vault_path, home)
    importer = Importer(
        app.queue.database,
        root,
        business=business,
        first=app.settings.business,
        dry_run=dry_run,
        requeue=requeue,
        left=left,
        zone=schedules.local_zone(os.environ),
    )
    work(importer)
    _tell(importer.report, left, dry_run=dry_run, as_json=as_json)


def _root(app: App, given: Path | None) -> Path:
    root = given or app.settings.root
    if root is None:
        raise ConfigurationError(
            "the folder of the first system is not known: name it with --persona-root,"
            " or set PERSONA_ROOT"
        )
    return root.expanduser().absolute()


def _tell(report: Report, left: list[Any], *, dry_run: bool, as_json: bool) -> None:
    """Print the report; exit code 1 where a file was broken."""
    if as_json:
        output.put_json(
            {
                "dryRun": dry_run,
                "complete": report.is_complete,
                "files": [one.document() for one in report.files],
                "leftovers": [{"what": one.what, "command": one.command} for one in left],
            }
        )
    else:
        if dry_run:
            output.put("dry run: nothing is changed")
        for one in report.files:
            for line in one.lines():
                output.put(output.clean(line))
        if not report.files:
            output.put("nothing to import")
        if left:
            output.put("\nStill set up, and run beside this queue until you remove it:")
        for one in left:
            output.put(f"  # {output.clean(one.what)}\n  {one.command}")
    if not report.is_complete:
        raise click.exceptions.Exit(1)


def _progress(what: str, count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{count} {what} read ", nl=False, err=True)


def main() -> NoReturn:
    """Run `persona-migrate` with the arguments of the process."""
    sys.exit(edge.run(cli, sys.argv[1:], "persona-migrate"))
