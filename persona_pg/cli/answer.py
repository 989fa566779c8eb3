"""persona answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app

if TYPE_CHECKING:
    from persona_pg.model import OpenQuestion


@click.command("answer")
@click.argument("ref", required=False, metavar="[ID]")
@click.argument("text", required=False, metavar="[TEXT | -]")
@output.listing_options
@pass_app
def answer_command(
    app: App, ref: str | None, text: str | None, *, as_json: bool, as_jsonl: bool
) -> None:
    """Answer what a job asked, so that it goes on; without an ID, list what waits for a person.

    The job resumes its conversation with the answer. A TEXT of - is read from standard input.
    Jobs that need approval are listed too: `persona release ID` approves, `persona kill ID` does
    not.
    """
    if ref is None:
        output.put_listing(
            app.queue.open_questions(),
            _COLUMNS,
            document=documents.of,
            as_json=as_json,
            as_jsonl=as_jsonl,
            empty="nothing waits for an answer",
        )
        return
    if text is None:
        raise click.UsageError("give the answer after the ID, or - to read it from standard input")
    answer = sys.stdin.buffer.read().decode("utf-8", "replace") if text == "-" else text
    job = app.queue.answer_job(ref, answer.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    if as_json or as_jsonl:
        output.put_json(documents.of_job(app.queue.get_full_job(job.id)))
    else:
        output.put(f"job {job.short_id} is {job.status}: {job.status_reason}")


def _what(question: OpenQuestion) -> str:
    return question.text if question.kind == "question" else f"({question.text})"


_COLUMNS = [
    output.Column("id", lambda q: q.short_id),
    output.Column("question", _what, flexible=True),
    output.Column("asked", lambda q: output.age(q.asked_at)),
    output.Column("agent", lambda q: q.agent, rank=1),
    output.Column("task", lambda q: q.task_preview or "", flexible=True, rank=2),
]
