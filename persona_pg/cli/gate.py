"""persona gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import DURATION

if TYPE_CHECKING:
    from datetime import timedelta

    from persona_pg.model import Gate

_account = click.option("--account", default="", help="Account at the provider, if it has several.")


@click.group("gate", cls=ListingGroup)
def gate_group() -> None:
    """List, open and close the gates of providers (without a subcommand: list).

    A gate closes by itself when a provider refuses work; no job of that provider starts until
    its reset, when one job tries first.
    """


@gate_group.command("list")
@output.listing_options
@pass_app
def list_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the gates that have ever been closed."""
    output.put_listing(
        app.queue.gates(),
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no gate has ever been closed",
    )


@gate_group.command("open")
@click.argument("provider")
@_account
@output.json_option
@pass_app
def open_command(app: App, provider: str, *, account: str, as_json: bool) -> None:
    """Let the jobs of a provider start again."""
    _put(app.queue.open_gate(provider, account), as_json=as_json)


@gate_group.command("close")
@click.argument("provider")
@_account
@click.option("--reason", help="Why; it is shown with every job that waits.")
@click.option(
    "--for", "duration", type=DURATION, metavar="10m", help="So long; else until it is opened."
)
@output.json_option
@pass_app
def close_command(
    app: App,
    provider: str,
    *,
    account: str,
    reason: str | None,
    duration: timedelta | None,
    as_json: bool,
) -> None:
    """Start no more jobs of a provider; those that run go on."""
    gate = app.queue.close_gate(provider, account, reason=reason, duration=duration)
    _put(gate, as_json=as_json)


def _put(gate: Gate, *, as_json: bool) -> None:
    if as_json:
        output.put_json(documents.of(gate))
    elif gate.state == "open":
        output.put(f"gate {_name(gate)} is open")
    else:
        output.put(f"gate {_name(gate)} is closed {_until(gate)}")


def _name(gate: Gate) -> str:
    return gate.provider + (f"/{gate.account}" if gate.account else "")


def _until(gate: Gate) -> str:
    if gate.state == "open":
        return ""
    if gate.state == "probing":
        return "until its probe has ended"
    return f"until {output.moment(gate.reopens_at)}" if gate.reopens_at else "until it is opened"


def _since(gate: Gate) -> str:
    return "" if gate.state == "open" else output.age(gate.closed_at)


_COLUMNS = [
    output.Column("gate", _name),
    output.Column("state", lambda g: g.state),
    output.Column("closed", _until),
    output.Column("since", _since, right=True),
    output.Column("reason", lambda g: g.reason or "", flexible=True, rank=1),
]
