"""persona notes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import DATE, DURATION
from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date, timedelta
    from types import FrameType

    from persona_pg.model import NoteLine, NoteLink, NoteQuestion
    from persona_pg.notes.answers import Written
    from persona_pg.notes.scan import Scan
    from persona_pg.notes.vault import Vault

_FAILED = 1
_NOT_WITHOUT_YES = 4


class NotesGroup(ListingGroup):
    """Shows the status where no subcommand is named."""

    default_command = "status"


@click.group("notes", cls=NotesGroup)
def notes_group() -> None:
    """Turn marked lines of daily notes into jobs (without a subcommand: status).

    \b
    [?] text            a question (research)
    [Q] text            a question for later: held until `persona release`
    [A] text            a task for an agent
    [CB?] /path - text  a question on code
    [M] text            a meeting to extract from; so is each entry under ## Meetings

    Each becomes one job, once.  Lines in code, comments and quotes do not count, nor do those
    that are struck through.
    """  # noqa: D301 - click's own mark, not a backslash


def _vault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    folder = click.option(
        "--vault", metavar="DIR", help="The vault's folder; else PERSONA_VAULT_PATH."
    )
    name = click.option(
        "--vault-name",
        metavar="NAME",
        help="Its name, the same on all machines; else PERSONA_VAULT_NAME, else the folder's.",
    )
    return folder(name(command))


_write_back_option = click.option(
    "--write-back/--no-write-back",
    default=None,
    help="Link marked lines to their answers; else the setting note_write_back.",
)


def _open(app: App, vault: str | None, name: str | None) -> Vault:
    from pathlib import Path

    from persona_pg.notes.vault import Vault

    root = Path(vault) if vault else app.settings.vault_path
    if root is None:
        raise ConfigurationError(
            "PERSONA_VAULT_PATH is not set: which folder is the vault?", hint="or give --vault DIR"
        )
    return Vault.open(root, name or app.settings.vault_name)


@notes_group.command("scan")
@_vault_options
@click.option("--since", type=DATE, metavar="DATE", help="All notes since then (2026-03-01).")
@click.option("-y", "--yes", is_flag=True, help="Create also where there are many, or the first.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_write_back_option
@output.json_option
@pass_app
def scan_command(
    app: App, *, vault: str | None, vault_name: str | None, since: date | None, yes: bool,
    dry_run: bool, write_back: bool | None, as_json: bool,
) -> None:  # fmt: skip
    """Read today's and yesterday's notes and create the jobs that are new.

    The first scan of a vault, and one that would create more than 10 jobs, only lists them; it
    creates them with --yes.  Finished answers are written into the vault as new notes.
    """
    from persona_pg.notes import answers, links
    from persona_pg.notes.scan import scan
    from persona_pg.notes.vault import days_to_scan

    place = _open(app, vault, vault_name)
    done = scan(
        app.queue, place, days_to_scan(since),
        business=app.settings.business, confirmed=yes, dry_run=dry_run,
    )  # fmt: skip
    written = [] if dry_run else answers.write_answers(app.queue, place)
    linked = [] if dry_run else links.write_links(app.queue, place, write_back=write_back)
    if as_json:
        output.put_json(_document(place, done, written, linked))
    else:
        _show(place, done, written, linked)
    complaints = done.complaints() + [w.complaint() for w in written if w.problem]
    for words in complaints:
        say(output.clean(words))
    sys.stdout.flush()
    waiting = done.having("would_create")
    if waiting and not dry_run:
        say(
            f"nothing was created ({waiting[0].reason}); create with:"
            f" persona notes scan{'' if since is None else f' --since {since}'} --yes"
        )
        raise click.exceptions.Exit(_NOT_WITHOUT_YES)
    if complaints:
        raise click.exceptions.Exit(_FAILED)


def _document(
    vault: Vault, done: Scan, written: Sequence[Written], linked: Sequence[NoteLink]
) -> dict[str, Any]:
    return {
        "vault": vault.name,
        "notes": done.notes,
        "lines": [documents.of(line) for line in done.lines],
        "created": len(done.having("created")),
        "answers": [documents.of(answer) for answer in written],
        "linked": [documents.of(link) for link in linked],
        "problems": done.problems,
    }


def _show(vault: Vault, done: Scan, written: Sequence[Written], linked: Sequence[NoteLink]) -> None:
    lines = [line for line in done.lines if line.action not in {"known", "answered"}]
    if lines:
        output.put_table(lines, _LINE_COLUMNS)
    for answer in written:
        if answer.path:
            output.put(f"answer to {answer.short_id} written: {answer.path}")
    for link in linked:
        output.put(f"linked: {link.path}:{link.line}")
    sys.stdout.flush()
    open_lines = [n for n in done.lines if n.action not in {"answered", "cancelled"}]
    counts = [
        _count(done.notes, "note"),
        _count(len(open_lines), "marked line"),
        _count(len(done.having("created")), "new job"),
    ]
    click.echo(f"vault {vault.name}: {', '.join(counts)}", err=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@notes_group.command("watch")
@_vault_options
@click.option(
    "--settle",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="10s",
    help="Scan when a changed note has been quiet for so long.",
)
@_write_back_option
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print a JSON object for each event.")
@pass_app
def watch_command(
    app: App, *, vault: str | None, vault_name: str | None, settle: timedelta,
    write_back: bool | None, as_jsonl: bool,
) -> None:  # fmt: skip
    """Scan when today's or yesterday's note has changed; write answers as they come.

    What needs a confirmation is told, and waits for `persona notes scan --yes`.  Ends with
    Ctrl-C or SIGTERM.
    """
    from persona_pg.cli.notes_events import Teller
    from persona_pg.notes.watch import Watch

    signal.signal(signal.SIGTERM, _end)
    place = _open(app, vault, vault_name)
    click.echo(f"watching the daily notes of {place.root}", err=True)
    Watch(
        app.queue, place, Teller(as_jsonl=as_jsonl),
        settle=settle.total_seconds(), business=app.settings.business, write_back=write_back,
    ).run()  # fmt: skip


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise click.exceptions.Exit(0)


@notes_group.command("status")
@_vault_options
@click.option(
    "-n", "--lines", "max_rows", type=click.IntRange(1, 10_000), default=30, show_default=True,
    help="At most so many.",
)  # fmt: skip
@output.listing_options
@pass_app
def status_command(
    app: App, *, vault: str | None, vault_name: str | None, max_rows: int, as_json: bool,
    as_jsonl: bool,
) -> None:  # fmt: skip
    """List what was asked in the daily notes and what became of it, the latest note first."""
    place = _open(app, vault, vault_name)
    output.put_listing(
        app.queue.note_questions(place.name, max_rows=max_rows),
        _QUESTION_COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty=f"nothing was asked in the vault {place.name}; scan it with: persona notes scan",
    )


def _place(line: NoteLine) -> str:
    return f"{line.path}:{line.line}"


def _became(question: NoteQuestion) -> str:
    if question.answer_path:
        return question.answer_path
    if question.is_gone:
        return "no longer in the note"
    return ""


_LINE_COLUMNS = [
    output.Column("", lambda n: n.action.replace("_", " ")),
    output.Column("id", lambda n: n.short_id or ""),
    output.Column("type", lambda n: n.job_type or ""),
    output.Column("agent", lambda n: n.agent or "", rank=1),
    output.Column("business", lambda n: n.for_business or "", rank=2),
    output.Column("note", _place, rank=3),
    output.Column("question", lambda n: n.question, flexible=True),
]
_QUESTION_COLUMNS = [
    output.Column("note", lambda q: q.note),
    output.Column("line", lambda q: str(q.line), right=True, rank=3),
    output.Column("id", lambda q: q.short_id or ""),
    output.Column("status", lambda q: q.status, style=lambda q: q.status),
    output.Column("type", lambda q: q.job_type or "", rank=2),
    output.Column("question", lambda q: q.task_preview or "", flexible=True),
    output.Column("answer", _became, flexible=True, rank=1),
]
