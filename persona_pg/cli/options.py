"""The options of create, which run has too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli.types import DURATION, INTEGER, TIME, USD

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from persona_pg.cli.app import App
    from persona_pg.model import Job

_OPTIONS = (
    click.option("-a", "--agent", help="Who runs it; else the type's default agent."),
    click.option("-f", "--source-file", metavar="FILE", help="The file it came from."),
    click.option("--source-line", type=INTEGER, metavar="N", help="The line in that file."),
    click.option(
        "--priority", type=INTEGER, metavar="N", help="Higher goes first; 0 if not given."
    ),
    click.option("--delay", type=DURATION, metavar="5m", help="Not before so long from now."),
    click.option("--run-at", type=TIME, metavar="TIME", help="Not before this time."),
    click.option("--timeout", type=DURATION, metavar="10m", help="Total time of an attempt."),
    click.option(
        "--idle-timeout", type=DURATION, metavar="2m", help="Longest silence of an attempt."
    ),
    click.option("--max-attempts", type=INTEGER, metavar="N", help="How often it may be tried."),
    click.option(
        "--dedupe-key", metavar="K", help="If an unfinished job has it, that job is the answer."
    ),
    click.option("--lock-key", metavar="K", help="Jobs with one key run one after the other."),
    click.option("--limit-key", metavar="K", help="Counts against the limit key:K; see `limits`."),
    click.option(
        "--max-cost",
        "max_cost_usd",
        type=USD,
        metavar="USD",
        help="What it, and all that it delegates, may cost; more: it is held.",
    ),
    click.option("--after-any", is_flag=True, help="With --after: also if those did not succeed."),
    click.option(
        "--after",
        multiple=True,
        metavar="ID",
        help="Wait until this job has completed (repeatable).",
    ),
    click.option("--parent", metavar="ID", help="The job this one belongs to."),
    click.option("--tag", "tags", multiple=True, metavar="T", help="A mark (repeatable)."),
    click.option("--business", help="The instance; else PERSONA_BUSINESS."),
)


def create_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that create and run share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def create_job(app: App, job_type: str, payload: dict[str, Any], **options: Any) -> Job:
    """Create a job as the shared options say."""
    delay: timedelta | None = options.pop("delay")
    run_at: datetime | None = options.pop("run_at")
    if delay is not None and run_at is not None:
        raise click.UsageError("give --delay or --run-at, not both")
    queue = app.queue
    after: tuple[str, ...] = options.pop("after")
    parent: str | None = options.pop("parent")
    tags: tuple[str, ...] = options.pop("tags")
    policy = "finished" if options.pop("after_any") else None
    business = options.pop("business") or app.settings.business
    if options["max_attempts"] is None:
        options["max_attempts"] = app.settings.max_attempts
    return queue.create_job(
        job_type,
        payload,
        delay=delay,
        run_at=run_at,
        depends_on=[queue.resolve_job(ref) for ref in after] or None,
        depends_policy=policy,
        parent_job_id=None if parent is None else queue.resolve_job(parent),
        tags=tags or None,
        business=business,
        **options,
    )
