"""persona create."""

from __future__ import annotations

import sys
from typing import Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.follow import missing_runner
from persona_pg.cli.options import create_job, create_options
from persona_pg.cli.types import read_document, read_text


@click.command("create")
@click.option("-t", "--type", "job_type", required=True, help="What kind of work, like research.")
@click.option("-q", "--question", help='Payload {"question": ...}; - reads standard input.')
@click.option("-p", "--prompt", help='Payload {"prompt": ...}; - reads standard input.')
@click.option("--payload", metavar="JSON|@FILE|-", help="The whole payload, a JSON object.")
@create_options
@click.option("--wait", is_flag=True, help="Wait for its end and exit with its exit code.")
@output.json_option
@pass_app
def create_command(
    app: App,
    /,
    *,
    job_type: str,
    question: str | None,
    prompt: str | None,
    payload: str | None,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a job and print its id (only that, when stdout is no terminal)."""
    content = _payload(question, prompt, payload)
    job = create_job(app, job_type, content, **options)
    if as_json and not wait:
        output.put_json(documents.of_job(app.queue.get_full_job(job.id)))
    elif not as_json:
        output.put(str(job.id))
    sys.stdout.flush()
    if sys.stderr.isatty() and not as_json:
        say(f"job {job.short_id} for agent {job.agent} is {job.status}")
        if not wait and (missing := missing_runner(app.queue, job.agent)):
            say(missing)
        elif not wait:
            say(f"follow it with: persona logs -f {job.short_id}")
    if wait:
        from persona_pg.cli.run import wait_for

        code = wait_for(app, [job.id], quiet=as_json)
        if as_json:
            output.put_json(documents.of_job(app.queue.get_full_job(job.id)))
        raise click.exceptions.Exit(code)


def _payload(question: str | None, prompt: str | None, payload: str | None) -> dict[str, Any]:
    given = [value for value in (question, prompt, payload) if value is not None]
    if len(given) > 1:
        raise click.UsageError("give one of -q, -p and --payload, not several")
    if question is not None:
        return {"question": read_text(question)}
    if prompt is not None:
        return {"prompt": read_text(prompt)}
    return {} if payload is None else read_document(payload, "--payload")
