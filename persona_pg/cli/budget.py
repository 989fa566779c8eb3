"""persona budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import USD
from persona_pg.errors import InvalidInput

if TYPE_CHECKING:
    from decimal import Decimal

    from persona_pg.model import Budget, BudgetLimit

_SCOPES = ("total", "business", "agent", "tree", "job")
_PERIODS = ("total", "day", "month")


@click.group("budget", cls=ListingGroup)
def budget_group() -> None:
    """List, set and remove budgets (without a subcommand: list).

    What a job is expected to cost is reserved when it starts, so that jobs which start at the
    same time never overspend together; a job for which a budget has no room is held, and goes on
    with the next period or with more money. Days and months are those of UTC.

    \b
    persona budget set all 100 --per month
    persona budget set each-agent 10 --scope agent --per day
    persona budget set acme 50 --scope business --of acme --per month
    persona budget set delegation 5 --scope tree
    """  # noqa: D301 - click's own mark, not a backslash


@budget_group.command("list")
@output.listing_options
@pass_app
def list_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the budgets, and how far each is used up."""
    output.put_listing(
        app.queue.budgets(),
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no budget; set one with: persona budget set all 100 --per month",
    )


@budget_group.command("set")
@click.argument("name")
@click.argument("limit", type=USD, required=False, metavar="[USD]")
@click.option("--scope", type=click.Choice(_SCOPES), help="What it limits; total if not given.")
@click.option(
    "--of",
    "subject",
    metavar="SUBJECT",
    help="Which agent, business, tree or job; each of them if not given, or ''.",
)
@click.option("--per", "period", type=click.Choice(_PERIODS), help="In all, if not given.")
@click.option("--on/--off", "is_active", default=None, help="Whether it is kept.")
@pass_app
def set_command(
    app: App,
    name: str,
    *,
    limit: Decimal | None,
    scope: str | None,
    subject: str | None,
    period: str | None,
    is_active: bool | None,
) -> None:
    """Let USD at most be spent; of a budget that exists, only what is given changes."""
    made = app.queue.set_budget(
        name, limit, scope=scope, subject=subject, period=period, is_active=is_active
    )
    off = "" if made.is_active else ", switched off"
    output.put(f"budget {name} is {_usd(made.limit_usd)} for {_of(made)} {_per(made)}{off}")


@budget_group.command("show")
@click.argument("name")
@output.listing_options
@pass_app
def show_command(app: App, name: str, *, as_json: bool, as_jsonl: bool) -> None:
    """Show one budget, with the jobs that are held for it."""
    found = app.queue.budgets(name)
    if not found:
        names = sorted({budget.name for budget in app.queue.budgets()})
        raise InvalidInput(f"no budget is named {name!r}; there are: {', '.join(names) or 'none'}")
    if as_json or as_jsonl:
        output.put_listing(
            found, _COLUMNS, document=documents.of, as_json=as_json, as_jsonl=as_jsonl, empty=""
        )
        return
    output.put_table(found, _COLUMNS)
    for job in app.queue.list_jobs(status="held", max_rows=1000):
        if (job.waiting_for or "").startswith((f"over budget {name}:", f"over budget {name} (")):
            output.put(f"held {job.short_id}  {job.agent}  {output.clean(job.task_preview or '')}")


@budget_group.command("remove")
@click.argument("name")
@pass_app
def remove_command(app: App, name: str) -> None:
    """Take a budget away; what was spent stays in the ledger."""
    app.queue.remove_budget(name)
    output.put(f"budget {name} is removed")


def _of(budget: Budget | BudgetLimit) -> str:
    if budget.scope == "total":
        return "everything"
    return f"{budget.scope} {budget.subject}" if budget.subject else f"each {budget.scope}"


def _per(budget: Budget | BudgetLimit) -> str:
    return "in all" if budget.period == "total" else f"per {budget.period}"


def _state(budget: Budget) -> str:
    if not budget.is_active:
        return "off"
    if budget.held:
        until = f" until {output.moment(budget.opens_at)}" if budget.opens_at else ""
        return f"holds {budget.held} job(s){until}"
    return f"{budget.parked} job(s) wait" if budget.parked else ""


def _usd(amount: Decimal | None) -> str:
    return output.money(amount) or "$0.00"


_COLUMNS = [
    output.Column("budget", lambda b: b.name),
    output.Column("of", _of, flexible=True),
    output.Column("per", _per),
    output.Column("used", lambda b: _usd(b.used_usd), right=True),
    output.Column("reserved", lambda b: _usd(b.reserved_usd), right=True, rank=1),
    output.Column("left", lambda b: _usd(b.left_usd), right=True),
    output.Column("limit", lambda b: _usd(b.limit_usd), right=True),
    output.Column("used %", lambda b: f"{b.percent_used or 0:.0f}", right=True, rank=2),
    output.Column("state", _state, flexible=True, rank=3),
]
