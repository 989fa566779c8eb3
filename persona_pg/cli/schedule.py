"""persona schedule."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from persona_pg import schedules
from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import DURATION, INTEGER, read_document
from persona_pg.errors import InvalidInput, JobNotFound
from persona_pg.plans import Plans

if TYPE_CHECKING:
    from datetime import datetime


@click.group("schedule", cls=ListingGroup)
def schedule_group() -> None:
    """Create jobs at given times (without a subcommand: list).

    Each due time makes exactly one job, with however many runners. Where the clocks change, a cron
    expression of a fixed hour whose time does not exist runs right after the gap, and one whose
    time comes twice runs the first time only; with * as hour it runs at each time the clock shows.
    """


@schedule_group.command("list")
@output.listing_options
@pass_app
def list_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the schedules, the next one first."""
    output.put_listing(
        Plans(app.queue.database).schedules(),
        _COLUMNS,
        document=dict,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no schedules; make one with: persona schedule add",
    )


@schedule_group.command("add")
@click.argument("name")
@click.argument("spec")
@click.option("-t", "--type", "job_type", required=True, help="Type of the job.")
@click.option("-a", "--agent", help="Who runs it; else the type's default agent.")
@click.option("-p", "--prompt", help="What is asked (payload.prompt).")
@click.option("--payload", metavar="JSON|@FILE|-", help="The payload as a JSON object.")
@click.option("--job", metavar="JSON|@FILE|-", help="Further arguments of create_job.")
@click.option(
    "--zone", help="Time zone of the expression, such as Europe/Berlin; UTC if not given."
)
@click.option(
    "--catch-up",
    type=click.Choice(["skip", "one", "all"]),
    default="skip",
    show_default=True,
    help="Which due times still count that passed while no runner was there.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip", "replace"]),
    default="allow",
    show_default=True,
    help="While the last job is unfinished: one more, none, or cancel the last one.",
)
@click.option("--jitter", type=DURATION, metavar="5m", help="Start up to so much later, at random.")
@click.option("--paused", is_flag=True, help="Create nothing until it is resumed.")
@pass_app
def add_command(
    app: App, /, name: str, spec: str, *, job_type: str, paused: bool, **options: Any
) -> None:
    """Add a schedule.

    SPEC is a cron expression of five fields, @hourly, @daily, @weekly, @monthly, @yearly,
    "@every 15 min" or "@at 2030-01-31 09:00".
    """
    zone = options["zone"] or "UTC"
    job: dict[str, Any] = {} if not options["job"] else read_document(options["job"], "--job")
    payload = {} if not options["payload"] else read_document(options["payload"], "--payload")
    if options["prompt"] is not None:
        payload["prompt"] = options["prompt"]
    job = job | {"job_type": job_type} | ({"payload": payload} if payload else {})
    if options["agent"]:
        job["agent"] = options["agent"]
    plans = Plans(app.queue.database)
    if not spec.lower().startswith(("@every ", "@at ")):
        try:
            next(schedules.times(spec, zone, plans.now()), None)
        except schedules.BadSchedule as exc:
            raise InvalidInput(str(exc)) from exc
    made = plans.create_schedule(
        name=name,
        spec=spec,
        job=job,
        time_zone=zone,
        catch_up=options["catch_up"],
        overlap=options["overlap"],
        is_paused=paused,
        jitter=options["jitter"] or timedelta(0),
    )
    output.put(f"schedule {name}: {_state(made)}, next {_next(made)}")


@schedule_group.command("show")
@click.argument("name")
@click.option("-n", "count", type=INTEGER, default=10, show_default=True, help="So many due times.")
@output.json_option
@pass_app
def show_command(app: App, name: str, *, count: int, as_json: bool) -> None:
    """Show a schedule and what became of its last due times."""
    plans = Plans(app.queue.database)
    found, runs = _found(plans, name), plans.runs(name, count)
    if as_json:
        output.put_json(found | {"runs": runs})
        return
    for field in ("spec", "time_zone", "job", "catch_up", "overlap", "jitter", "problem"):
        if found[field]:
            output.put(f"{field.replace('_', ' '):<10} {output.clean(str(found[field]))}")
    output.put(f"{'next':<10} {_next(found)} ({_state(found)})")
    for run in runs:
        job = (
            f"job {str(run['job_id'])[-8:]} {run['status'] or 'cleaned up'}"
            if run["job_id"]
            else ""
        )
        late = f", {output.duration(run['late'])} late" if run["outcome"] == "late" else ""
        output.put(f"{run['due_at'].isoformat(' ', 'seconds')}  {run['outcome']}{late}  {job}")


@schedule_group.command("next")
@click.argument("name")
@click.option("-n", "count", type=INTEGER, default=5, show_default=True, help="So many.")
@output.json_option
@pass_app
def next_command(app: App, name: str, *, count: int, as_json: bool) -> None:
    """Show the next due times, in the schedule's zone and in UTC."""
    from zoneinfo import ZoneInfo

    plans = Plans(app.queue.database)
    found = _found(plans, name)
    due = list(islice(_coming(found, plans.now()), min(count, 1000)))
    if as_json:
        output.put_json(due)
        return
    zone = ZoneInfo(found["time_zone"])
    for at in due:
        local = at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")
        output.put(f"{local}   {at.astimezone(ZoneInfo('UTC')).isoformat(' ', 'seconds')}")


def _coming(found: dict[str, Any], now: datetime) -> Any:
    if found["every"] is not None:
        return (found["next_due_at"] + i * found["every"] for i in range(1000))
    if found["spec"].lower().startswith("@at "):
        return iter([] if found["is_done"] else [found["next_due_at"]])
    return schedules.times(found["spec"], found["time_zone"], now)


def _changing(verb: str, text: str) -> None:
    @click.argument("names", nargs=-1, required=True, metavar="NAME...")
    @pass_app
    def command(app: App, names: tuple[str, ...]) -> None:
        plans = Plans(app.queue.database)
        for name in names:
            found = plans.change_schedule(f"{verb}_schedule", name)
            what = "removed" if verb == "remove" else f"{_state(found)}, next {_next(found)}"
            output.put(f"schedule {name}: {what}")

    schedule_group.command(verb, help=text)(command)


_changing("pause", "Create nothing until they are resumed.")
_changing("resume", "Go on; what was due meanwhile is not caught up with.")
_changing("remove", "Remove schedules; the jobs that they created stay.")


def _found(plans: Plans, name: str) -> dict[str, Any]:
    found = plans.schedule(name)
    if found is None:
        raise JobNotFound(f"there is no schedule {name}; persona schedule lists them")
    return found


def _state(found: dict[str, Any]) -> str:
    if found["is_done"]:
        return "done"
    if found["is_paused"]:
        return "paused"
    return "active"


def _next(found: dict[str, Any]) -> str:
    at = found["next_due_at"]
    if found["is_done"] or found["is_paused"]:
        return "never"
    return "as soon as a runner is there" if at is None else output.moment(at)


_COLUMNS = [
    output.Column("name", lambda s: s["name"]),
    output.Column("when", lambda s: s["spec"], flexible=True),
    output.Column("zone", lambda s: s["time_zone"], rank=3),
    output.Column("state", _state),
    output.Column("next", _next),
    output.Column("last", lambda s: s["last_outcome"] or "", rank=1),
    output.Column("problem", lambda s: s["problem"] or "", flexible=True, rank=2),
]
