"""persona logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from persona_pg.model import Job, LogLine
    from persona_pg.queue import Queue

_LEVEL_STYLES = {"error": "failed", "warn": "pending"}


@click.command("logs")
@click.argument("ref", metavar="ID")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.option(
    "--stream",
    type=click.Choice(["stdout", "stderr", "system"]),
    help="Only what came from here; system is what the runner had to say.",
)
@output.listing_options
@pass_app
def logs_command(
    app: App,
    ref: str,
    *,
    tail: int | None,
    follow: bool,
    timestamps: bool,
    stream: str | None,
    as_json: bool,
    as_jsonl: bool,
) -> None:
    """Print what a job printed, all streams in order."""
    if as_json and follow:
        raise click.UsageError("--json prints one document; use --jsonl with -f")
    job = app.queue.get_job(ref)
    lines = _wanted(app.queue, job.id, tail)
    if as_json:
        chosen = [line for line in lines if stream in (None, line.stream)]
        output.put_json([documents.of_log_line(line) for line in chosen])
        return
    printer = LinePrinter(timestamps=timestamps, as_jsonl=as_jsonl)

    def show(line: LogLine) -> None:
        if stream in (None, line.stream):
            printer.put(line)

    last = None
    for last in lines:
        if tail != 0:
            show(last)
    if follow:
        _follow(app, job, show, last)
    elif last is None and job.started_at is None:
        say(f"job {job.short_id} is {job.status} and has not started: no log yet")


def _wanted(queue: Queue, job_id: UUID, tail: int | None) -> Iterable[LogLine]:
    if tail is None:
        return queue.iter_logs(job_id)
    # With 0 the last line is read all the same: following starts after it.
    return queue.tail_logs(job_id, max(tail, 1))


def _follow(app: App, job: Job, show: Callable[[LogLine], None], last: LogLine | None) -> None:
    app.be_patient()
    sys.stdout.flush()
    follower = Follower(app.queue, job.id, show=_flushing(show))
    if last is not None:
        follower.start_after(last)
    follower.follow()


def _flushing(show: Callable[[LogLine], None]) -> Callable[[LogLine], None]:
    def shown(line: LogLine) -> None:
        show(line)
        sys.stdout.flush()

    return shown


class LinePrinter:
    """Prints log lines; the pieces of a long line are joined again."""

    def __init__(self, *, timestamps: bool = False, as_jsonl: bool = False) -> None:
        self._timestamps = timestamps
        self._as_jsonl = as_jsonl
        self._in_line = False

    def put(self, line: LogLine) -> None:
        """Print a line of any stream."""
        if self._as_jsonl:
            output.put_jsonl([documents.of_log_line(line)])
            return
        text = output.printable(line.message) if sys.stdout.isatty() else line.message
        if style := _LEVEL_STYLES.get(line.level):
            text = output.styled(text, style)
        if self._timestamps and not self._in_line:
            at = line.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
            text = f"{output.dim(at)} {text}"
        self._in_line = line.goes_on
        sys.stdout.write(text if line.goes_on else text + "\n")
