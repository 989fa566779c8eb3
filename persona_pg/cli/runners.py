"""persona runners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup

if TYPE_CHECKING:
    from persona_pg.model import Runner


@click.group("runners", cls=ListingGroup)
def runners_group() -> None:
    """List runners, or ask one to finish (without a subcommand: list)."""


@runners_group.command("list")
@click.option("--all", "with_gone", is_flag=True, help="Also those that have ended.")
@output.listing_options
@pass_app
def list_command(app: App, *, with_gone: bool, as_json: bool, as_jsonl: bool) -> None:
    """List the runners with what they do."""
    runners = [r for r in app.queue.runners() if with_gone or r.status != "gone"]
    output.put_listing(
        runners,
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no runner; start one with: persona-worker",
    )


@runners_group.command("drain")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--outdated", is_flag=True, help="All that speak an older protocol than the schema's newest."
)
@pass_app
def drain_command(app: App, names: tuple[str, ...], *, outdated: bool) -> None:
    """Ask runners to take nothing more and to end when their jobs have."""
    if not names and not outdated:
        raise click.UsageError("name a runner, or say --outdated")
    drained = [app.queue.drain_runner(name) for name in names]
    if outdated:
        drained += app.queue.drain_outdated_runners()
    for name in drained:
        output.put(f"runner {name} is asked to finish")
    if not drained:
        click.echo("no live runner speaks an older protocol", err=True)


def _agents(runner: Runner) -> str:
    return ", ".join(runner.agents) if runner.agents else "all"


_COLUMNS = [
    output.Column("name", lambda r: r.name),
    output.Column("status", lambda r: r.status, style=lambda r: r.status),
    output.Column("jobs", lambda r: f"{r.running}/{r.capacity}", right=True),
    output.Column("host", lambda r: r.hostname, rank=2),
    output.Column("pid", lambda r: str(r.pid), right=True, rank=4),
    output.Column("seen", lambda r: output.age(r.last_seen_at), right=True),
    output.Column("version", lambda r: r.version or "", rank=3),
    output.Column("agents", _agents, flexible=True, rank=1),
]
