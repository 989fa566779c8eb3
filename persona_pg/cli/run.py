"""persona run, persona wait."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.follow import (
    Follower,
    Interrupts,
    WaitingNote,
    cancel_quietly,
    exit_code_of,
    outcome,
)
from persona_pg.cli.options import create_job, create_options
from persona_pg.cli.progress import Bar
from persona_pg.cli.types import DURATION
from persona_pg.errors import TryLater
from persona_pg.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from persona_pg.model import Job, LogLine


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("-t", "--type", "job_type", default="command", show_default=True, help="Job type.")
@click.option("--cwd", metavar="DIR", help="Folder to run in, on the runner's machine.")
@create_options
@click.argument("argv", nargs=-1, required=True, metavar="[--] CMD [ARG]...")
@pass_app
def run_command(
    app: App, /, *, job_type: str, cwd: str | None, argv: tuple[str, ...], **options: Any
) -> None:
    """Run a command as a job, follow its output, and exit with its exit code.

    124 stands for a timeout, 130 for a cancelled job.  Ctrl-C cancels the job and waits for its
    end; a second Ctrl-C has it killed at once.  If this program is ended in any other way, the
    job goes on.  The command runs on a runner's machine, without a terminal, in the runner's home
    folder (see --cwd), and with little of its environment.
    """
    payload: dict[str, Any] = {"argv": list(argv)}
    if cwd is not None:
        payload["cwd"] = str(Path(cwd).absolute())
    options["agent"] = options["agent"] or "command"
    # A command that a person watches fails once, as it would without us.
    options["max_attempts"] = options["max_attempts"] or 1
    # Before the job is there: a Ctrl-C in between must not leave one behind that nobody follows.
    with Interrupts() as interrupts:
        job = create_job(app, job_type, payload, **options)
        if sys.stderr.isatty():
            say(f"job {job.short_id}")
        app.be_patient()
        ended = _follow(app, job, interrupts)
    if ended.status != "completed":
        say(outcome(ended))
    raise click.exceptions.Exit(exit_code_of(ended))


def _follow(app: App, job: Job, interrupts: Interrupts) -> Job:
    streams = _Streams()
    heeded = 0

    def heed_interrupts() -> None:
        nonlocal heeded
        if interrupts.count > heeded:
            heeded = interrupts.count
            again = "" if heeded > 1 else "; Ctrl-C again kills it at once"
            say(f"cancelling job {job.short_id}{again}")
            cancel_quietly(app.queue, job.id, "interrupted", force=heeded > 1)

    follower = Follower(app.queue, job.id, show=streams.show, interrupts=interrupts)
    try:
        return follower.follow(heed_interrupts)
    except BrokenPipeError:
        # Nobody reads any more: a program started directly would end here, too.
        cancel_quietly(app.queue, job.id, "its output is no longer read", force=False)
        raise


class _Streams:
    """Gives each stream of the job to ours; what the runner has to say goes to stderr."""

    def show(self, line: LogLine) -> None:
        end = "" if line.goes_on else "\n"
        if line.stream == "stdout":
            sys.stdout.write(line.message + end)
            sys.stdout.flush()
        elif line.stream == "stderr":
            sys.stderr.write(line.message + end)
            sys.stderr.flush()
        elif line.level in {"warn", "error"}:
            say(line.message)


@click.command("wait")
@click.argument("refs", nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", type=DURATION, metavar="10m", help="Stop waiting then, with exit 75.")
@output.listing_options
@pass_app
def wait_command(
    app: App, refs: tuple[str, ...], *, timeout: timedelta | None, as_json: bool, as_jsonl: bool
) -> None:
    """Wait until jobs have ended.

    Exits with the job's own exit code (124 timeout, 130 cancelled), of several jobs with that of
    the first one named that did not exit with 0.
    """
    queue = app.queue
    ids = [queue.resolve_job(ref) for ref in refs]
    code = wait_for(app, ids, timeout=timeout, quiet=as_json or as_jsonl)
    if as_json or as_jsonl:
        found = [documents.of_job(queue.get_full_job(job_id)) for job_id in ids]
        output.put_json(found) if as_json else output.put_jsonl(found)
    raise click.exceptions.Exit(code)


def wait_for(
    app: App, ids: Sequence[UUID], *, timeout: timedelta | None = None, quiet: bool = False
) -> int:
    """Wait for jobs; return the exit code that stands for them all."""
    app.be_patient()
    queue = app.queue
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    waiting = dict.fromkeys(ids)
    notes = {job_id: WaitingNote(queue) for job_id in waiting}
    codes: dict[UUID, int] = {}
    with Watch(queue.database, ids) as watch, Bar("waiting", len(ids), quiet=quiet) as bar:
        while True:
            for job in queue.get_jobs(list(waiting)):
                if job.is_finished:
                    codes[job.id] = exit_code_of(job)
                    del waiting[job.id]
                    bar.clear()
                    say(outcome(job))
                    watch.hurry()
                elif len(ids) == 1:
                    notes[job.id].look_at(job)
            if not waiting:
                return next((codes[job_id] for job_id in ids if codes[job_id]), 0)
            bar.show(len(codes), f"{len(codes)} of {len(ids)} jobs have ended")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TryLater(f"{len(waiting)} of {len(ids)} jobs have not ended yet")
            due = notes[ids[0]].due_in() if len(ids) == 1 else None
            watch.wait(min((each for each in (left, due) if each is not None), default=None))
