"""persona alerts."""

from __future__ import annotations

import json
from typing import Any

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import INTEGER, read_document
from persona_pg.plans import Plans


@click.group("alerts", cls=ListingGroup)
def alerts_group() -> None:
    """Look at alerts, and say who is told (without a subcommand: list).

    Nothing is sent without a rule. Addresses are in the environment (or the .env) of the runners
    only: ALERT_WEBHOOK_URL, ALERT_SMTP_URL (smtp://USER:PASSWORD@HOST:PORT) and ALERT_MAIL_TO.

    \b
    persona alerts rule add all --to webhook
    persona alerts rule add ops --kind gate_closed --to slack --url-from ALERT_SLACK_URL
    persona alerts rule add slow --kind queue_age --when seconds=3600 --to mail
    persona alerts test
    """  # noqa: D301 - click's own mark, not a backslash


@alerts_group.command("list")
@click.option("-n", "count", type=INTEGER, default=20, show_default=True, help="So many.")
@click.option("--all", "with_seen", is_flag=True, help="Also those that have been seen.")
@output.listing_options
@pass_app
def list_command(app: App, *, count: int, with_seen: bool, as_json: bool, as_jsonl: bool) -> None:
    """List alerts that nobody has marked as seen, the newest first."""
    output.put_listing(
        Plans(app.queue.database).alerts(count, unseen=not with_seen),
        _COLUMNS,
        document=dict,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no alerts",
    )


@alerts_group.command("seen")
@click.argument("up_to", type=INTEGER, required=False, metavar="[ID]")
@pass_app
def seen_command(app: App, *, up_to: int | None) -> None:
    """Mark alerts as seen, all or those up to an id."""
    output.put(f"{Plans(app.queue.database).acknowledge(up_to)} marked as seen")


@alerts_group.command("rules")
@output.listing_options
@pass_app
def rules_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the rules that have alerts delivered."""
    output.put_listing(
        Plans(app.queue.database).rules(),
        _RULE_COLUMNS,
        document=dict,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no rules: nobody is told; make one with: persona alerts rule add",
    )


@alerts_group.group("rule")
def rule_group() -> None:
    """Make and remove rules."""


@rule_group.command("add")
@click.argument("name")
@click.argument("argv", nargs=-1, metavar="[-- COMMAND [ARG]...]")
@click.option("--kind", default="*", show_default=True, help="What it watches; * for everything.")
@click.option(
    "--to",
    type=click.Choice(["webhook", "slack", "discord", "mail", "command"]),
    default="webhook",
    show_default=True,
    help="The way; a command gets the alerts as JSON on standard input.",
)
@click.option("--url-from", metavar="ALERT_NAME", help="Variable of the runner with the address.")
@click.option(
    "--when", multiple=True, metavar="KEY=VALUE", help="A number is the least value. Repeatable."
)
@click.option("--condition", metavar="JSON|@FILE|-", help="Conditions as a JSON object.")
@pass_app
def rule_add_command(
    app: App, /, name: str, argv: tuple[str, ...], *, kind: str, to: str, **options: Any
) -> None:
    """Make a rule, or replace it as a whole.

    Kinds: job_failed, job_held, job_hung, gate_closed, budget, queue_age, schedule. Conditions:
    agent, job_type, failure_kind, is_exhausted, percent (budget), seconds (queue_age).
    """
    condition = (
        {} if not options["condition"] else read_document(options["condition"], "--condition")
    )
    for pair in options["when"]:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--when: {pair!r} is not KEY=VALUE")
        condition[key] = _value(value)
    delivery: dict[str, Any] = {"to": to}
    if options["url_from"]:
        delivery["url_from"] = options["url_from"]
    if argv:
        delivery["argv"] = list(argv)
    Plans(app.queue.database).set_rule(name=name, kind=kind, delivery=delivery, condition=condition)
    output.put(f"rule {name}: {kind} to {to}; try it with: persona alerts test {name}")


def _value(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(found, dict) else found


@rule_group.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_app
def rule_remove_command(app: App, names: tuple[str, ...]) -> None:
    """Remove rules."""
    for name in names:
        Plans(app.queue.database).remove_rule(name)
        output.put(f"rule {name} removed")


@alerts_group.command("test")
@click.argument("rule", required=False)
@pass_app
def test_command(app: App, *, rule: str | None) -> None:
    """Send a test through a rule, or through all of them."""
    Plans(app.queue.database).test(rule)
    output.put("sent: a job of agent alert delivers it; see persona jobs -a alert")


_COLUMNS = [
    output.Column("id", lambda a: str(a["id"]), right=True),
    output.Column("when", lambda a: output.age(a["created_at"]), right=True),
    output.Column("kind", lambda a: a["kind"]),
    output.Column("message", lambda a: a["message"], flexible=True),
]
_RULE_COLUMNS = [
    output.Column("name", lambda r: r["name"]),
    output.Column("kind", lambda r: r["kind"]),
    output.Column("to", lambda r: r["delivery"].get("to", "")),
    output.Column("from", lambda r: r["delivery"].get("url_from", ""), rank=2),
    output.Column("condition", lambda r: json.dumps(r["condition"]), flexible=True),
    output.Column("state", lambda r: "active" if r["is_active"] else "off"),
]
