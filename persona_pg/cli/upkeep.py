"""persona hung, persona cleanup."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.follow import cancel_quietly
from persona_pg.cli.progress import Bar
from persona_pg.cli.types import DURATION

if TYPE_CHECKING:
    from datetime import timedelta

    from persona_pg.model import DashboardJob

# Deleted in one statement: short enough that nobody waits for its locks.
_BATCH = 5000


@click.command("hung")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="S",
    help="So long without a heartbeat; else JOB_HUNG_TIMEOUT.",
)
@click.option("--kill", is_flag=True, help="Cancel them (asks on a terminal).")
@click.option("-y", "--yes", is_flag=True, help="With --kill: do not ask.")
@output.listing_options
@pass_app
def hung_command(
    app: App, *, timeout: timedelta | None, kill: bool, yes: bool, as_json: bool, as_jsonl: bool
) -> None:
    """List running jobs without a heartbeat, by the server's clock.

    Runners take such jobs back by themselves once the lease has run out; --kill is for those
    that shall not run again.
    """
    after = timeout if timeout is not None else app.settings.hung_timeout
    jobs = app.queue.detect_hung_jobs(after)
    output.put_listing(
        jobs,
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty=f"no job has been without a heartbeat for {output.duration(after)}",
    )
    if kill and jobs:
        sys.stdout.flush()
        if not yes and sys.stdin.isatty():
            question = f"Cancel these {len(jobs)} jobs?" if len(jobs) > 1 else "Cancel this job?"
            if not click.confirm(question, err=True):
                raise click.exceptions.Exit(1)
        for job in jobs:
            cancel_quietly(app.queue, job.id, "hung: killed by hand", force=True)
        click.echo(f"{len(jobs)} cancelled", err=True)


def _since(job: DashboardJob) -> str:
    return output.age(job.heartbeat_at)


_COLUMNS = [
    output.Column("id", lambda j: j.short_id),
    output.Column("agent", lambda j: j.agent),
    output.Column("runner", lambda j: j.runner_name or "", rank=1),
    output.Column("pid", lambda j: "" if j.pid is None else str(j.pid), right=True, rank=2),
    output.Column("running", lambda j: output.duration(j.duration_seconds), right=True),
    output.Column("heartbeat", _since, right=True),
    output.Column("task", lambda j: j.task_preview or "", flexible=True),
]


@click.command("cleanup")
@click.option(
    "-d",
    "--days",
    type=click.IntRange(0, 36500),
    default=30,
    show_default=True,
    help="Keep what ended within so many days.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@output.json_option
@pass_app
def cleanup_command(app: App, *, days: int, dry_run: bool, as_json: bool) -> None:
    """Delete finished jobs that are older, in batches that block nobody."""
    queue = app.queue
    if dry_run:
        count = queue.cleanup_old_jobs(days, dry_run=True)
    else:
        count = 0
        with Bar("deleting", quiet=as_json) as bar:
            if bar.is_on:
                bar.total = queue.cleanup_old_jobs(days, dry_run=True)
            while (deleted := queue.cleanup_old_jobs(days, max_jobs=_BATCH)) > 0:
                count += deleted
                bar.show(count, f"{count} finished jobs")
    if as_json:
        output.put_json({"deleted": 0 if dry_run else count, "found": count, "dryRun": dry_run})
    else:
        verb = "would be deleted" if dry_run else "deleted"
        output.put(f"{count} finished jobs older than {days} days {verb}")
