"""persona limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup

if TYPE_CHECKING:
    from persona_pg.model import Limit


@click.group("limits", cls=ListingGroup)
def limits_group() -> None:
    """List, set and remove limits on what runs at once (without a subcommand: list).

    A limit is named total, type:JOB_TYPE or key:LIMIT_KEY; jobs get a key with
    `persona create --limit-key`.  That of an agent is set with `persona agents edit NAME
    --max-concurrent N`.
    """


@limits_group.command("list")
@output.listing_options
@pass_app
def list_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the limits with what they have to spare."""
    output.put_listing(
        app.queue.limits(),
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no limit; set one with: persona limits set total 10",
    )


@limits_group.command("set")
@click.argument("name")
@click.argument("max_running", type=click.IntRange(min=0), metavar="N")
@pass_app
def set_command(app: App, name: str, max_running: int) -> None:
    """Let N jobs at most run at once, on all machines together."""
    app.queue.set_limit(name, max_running)
    output.put(f"limit {name} is {max_running}")


@limits_group.command("remove")
@click.argument("name")
@pass_app
def remove_command(app: App, name: str) -> None:
    """Take a limit away."""
    app.queue.remove_limit(name)
    output.put(f"limit {name} is removed")


def _state(limit: Limit) -> str:
    return "full" if limit.running >= limit.max_running else ""


_COLUMNS = [
    output.Column("limit", lambda found: found.name),
    output.Column("running", lambda found: str(found.running), right=True),
    output.Column("of", lambda found: str(found.max_running), right=True),
    output.Column("parked", lambda found: str(found.parked), right=True),
    output.Column("state", _state),
]
