"""persona kill, retry, hold, release."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.types import USD
from persona_pg.errors import PersonaError, with_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from persona_pg.model import Job


def _refs(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("refs", nargs=-1, required=True, metavar="ID...")(command)


def _each(
    app: App,
    refs: Sequence[str],
    act: Callable[[str], Job],
    say_done: Callable[[Job], str],
    *,
    as_json: bool,
) -> None:
    """Do it to each job; one that fails does not keep the others from it."""
    failed: PersonaError | None = None
    done: list[Job] = []
    for ref in refs:
        try:
            job = act(ref)
        except PersonaError as exc:
            if len(refs) == 1:
                raise
            say(with_hint(exc))
            failed = failed or exc
            continue
        done.append(job)
        if not as_json:
            output.put(say_done(job))
    if as_json:
        output.put_json([documents.of_job(app.queue.get_full_job(job.id)) for job in done])
    if failed is not None:
        raise click.exceptions.Exit(failed.exit_code)


@click.command("kill")
@click.argument("refs", nargs=-1, metavar="ID...")
@click.option("--force", is_flag=True, help="Kill at once, without the grace after SIGTERM.")
@click.option("--reason", help="Why; it is kept with the job.")
@click.option("--pending", is_flag=True, help="Cancel everything that has not started instead.")
@click.option("-y", "--yes", is_flag=True, help="With --pending: do not ask.")
@click.option("--only", is_flag=True, help="Leave running what they delegated.")
@click.option("-w", "--wait", is_flag=True, help="Wait until they have ended.")
@output.json_option
@pass_app
def kill_command(
    app: App,
    refs: tuple[str, ...],
    *,
    force: bool,
    reason: str | None,
    pending: bool,
    yes: bool,
    only: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Cancel jobs and what they delegated; of running ones every process is killed."""
    if pending == bool(refs):
        raise click.UsageError("name the jobs, or give --pending")
    if pending:
        _kill_pending(app, reason, yes=yes, as_json=as_json)
        return
    ids = []

    def kill(ref: str) -> Job:
        job = app.queue.cancel_job(ref, reason, force=force, tree=not only)
        ids.append(job.id)
        return job

    _each(app, refs, kill, _killed, as_json=as_json)
    if wait:
        from persona_pg.cli.run import wait_for

        sys.stdout.flush()
        wait_for(app, ids)


def _killed(job: Job) -> str:
    if job.is_finished:
        return f"job {job.short_id} is {job.status}"
    return f"job {job.short_id} is being killed on {job.hostname or 'its runner'}"


def _kill_pending(app: App, reason: str | None, *, yes: bool, as_json: bool) -> None:
    if not yes and sys.stdin.isatty():
        summary = app.queue.job_summary()
        count = summary.pending + summary.blocked
        if not click.confirm(f"Cancel {count} jobs that have not started?", err=True):
            raise click.exceptions.Exit(1)
    count = app.queue.cancel_pending_jobs(reason)
    output.put_json({"cancelled": count}) if as_json else output.put(f"{count} jobs cancelled")


@click.command("retry")
@_refs
@output.json_option
@pass_app
def retry_command(app: App, refs: tuple[str, ...], *, as_json: bool) -> None:
    """Put failed or cancelled jobs back into the queue, with all their attempts."""
    _each(app, refs, app.queue.retry_job, _is_now, as_json=as_json)


@click.command("hold")
@_refs
@click.option("--reason", help="Why; it is shown with the job.")
@output.json_option
@pass_app
def hold_command(app: App, refs: tuple[str, ...], *, reason: str | None, as_json: bool) -> None:
    """Keep jobs from running until they are released; running ones are stopped."""
    _each(app, refs, lambda ref: app.queue.hold_job(ref, reason), _is_now, as_json=as_json)


@click.command("release")
@_refs
@click.option(
    "--max-cost",
    type=USD,
    metavar="USD",
    help="What each, and all that it delegates, may cost in all from now on; it goes on where it"
    " stopped, in the same conversation. Also of a job that is not held.",
)
@output.json_option
@pass_app
def release_command(
    app: App, refs: tuple[str, ...], *, max_cost: Decimal | None, as_json: bool
) -> None:
    """Let held jobs run: also the approval of those that need one."""
    _each(
        app,
        refs,
        lambda ref: app.queue.release_job(ref, max_cost_usd=max_cost),
        _is_now,
        as_json=as_json,
    )


def _is_now(job: Job) -> str:
    return f"job {job.short_id} is {job.status}" + (
        f": {output.clean(job.status_reason)}" if job.status_reason else ""
    )
