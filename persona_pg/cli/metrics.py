"""persona metrics."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.types import INTEGER
from persona_pg.errors import ConfigurationError

# A scrape that comes late is worth nothing: Prometheus gives up after 10 s.
_PATIENCE = 2.0
_DEADLINE = 8.0


@click.command("metrics")
@click.option(
    "--textfile", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write this file, whole, for the textfile collector of node_exporter.",
)  # fmt: skip
@click.option("--serve", "is_serving", is_flag=True, help="Answer Prometheus until Ctrl-C.")
@click.option("--port", type=INTEGER, default=9680, show_default=True, help="0: any free one.")
@click.option(
    "--listen",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Answer on this address of ours; 0.0.0.0: on all, other machines too.",
)
@pass_app
def metrics_command(
    app: App, *, textfile: Path | None, is_serving: bool, port: int, listen: str
) -> None:
    """Print what monitoring asks, for Prometheus: queue, executions, runners, budgets, health.

    Each scrape is one question to the database; nothing is kept. docs/grafana.json is a dashboard.
    The address says names of agents and runners to whoever can reach it, and nothing of jobs. With
    the database out of reach persona_up is 0, and without --serve the exit code 69.
    """
    try:
        from persona_pg import metrics
    except ImportError as exc:
        if exc.name != "prometheus_client":
            raise
        raise ConfigurationError(
            "`persona metrics` needs the extra [metrics]", hint="pip install 'persona-pg[metrics]'"
        ) from None
    if textfile is not None and is_serving:
        raise click.UsageError("--textfile writes once, --serve goes on: choose one of them")
    from persona_pg.database import Database
    from persona_pg.embedded import resolve_dsn

    dsn = resolve_dsn(app.settings)
    with Database(
        dsn, application_name="persona metrics", patience=_PATIENCE, deadline=_DEADLINE
    ) as database:
        if is_serving:
            registry = metrics.registry_of(metrics.Queue(database, on_error=lambda e: say(str(e))))
            address, wait = metrics.serve(registry, listen, port)
            output.put(address)
            sys.stdout.flush()
            gc.freeze()
            gc.enable()
            with contextlib.suppress(KeyboardInterrupt):
                wait()
            return
        errors: list[Exception] = []
        registry = metrics.registry_of(metrics.Queue(database, on_error=errors.append))
        content = metrics.text(registry)
        if textfile is not None:
            metrics.write(textfile, content)
        elif not errors:
            output.put(content.decode().rstrip("\n"))
        if errors:
            raise errors[0]
