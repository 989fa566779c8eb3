"""persona monitor, persona-monitor."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click

from persona_pg.cli import edge, monitor_plots, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.monitor_file import StatusFile
from persona_pg.cli.monitor_views import MOST_ROWS, Overview, Plots
from persona_pg.errors import DatabaseUnreachable, TryLater
from persona_pg.watch import Watch

if TYPE_CHECKING:
    from persona_pg.queue import Queue

# However much changes, the queue is read no more often than this, and for no more of the time.
_COALESCED = 0.25
_SHARE = 0.25
_REPAINTED = 1.0
_AWAY_RETRY = 1.0
_PATIENCE = 0.5
_TEXT_SIZE = (100, 40)


@click.command("monitor")
@click.option("--once", is_flag=True, help="Show it once and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: one JSON document.")
@click.option(
    "--plots",
    "span",
    type=click.Choice(list(monitor_plots.SPANS)),
    help="Show what the dashboard draws, of so long a time; with --once, or into a pipe, once.",
)
@click.option("--jsonl", "as_jsonl", is_flag=True, help="Print events, a JSON object a line.")
@click.option(
    "--after",
    metavar="CURSOR",
    help="With --jsonl: begin behind this event; 0: with the first one stored. Else with the next.",
)
@click.option("--job", metavar="ID", help="With --jsonl: only events of this job.")
@click.option("--type", "of_type", metavar="TYPE", help="With --jsonl: only such, like job.failed.")
@click.option(
    "--status-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Keep one JSON file up to date, for status bars.",
)
@pass_app
def monitor_command(
    app: App,
    *,
    once: bool,
    as_json: bool,
    span: str | None,
    as_jsonl: bool,
    after: str | None,
    job: str | None,
    of_type: str | None,
    status_file: Path | None,
) -> None:
    """Watch the queue live: q or Ctrl-C ends it.

    Nothing is polled: the database tells of changes, and many at once are read once.  A lost
    connection comes back by itself.  Each line of --jsonl has the cursor with which --after goes
    on behind it, also after a restart of the database; no event is left out or comes twice.
    """
    if as_json and not once:
        raise click.UsageError("--json prints one document: add --once, or use --jsonl for events")
    if span and (as_json or as_jsonl or status_file):
        raise click.UsageError("--plots is drawn: it goes with no --json, --jsonl or --status-file")
    if as_jsonl and (once or status_file):
        raise click.UsageError("--jsonl goes with neither --once nor --status-file")
    if not as_jsonl and (after or job or of_type):
        raise click.UsageError("--after, --job and --type choose events: add --jsonl")
    queue = app.queue
    if as_jsonl:
        from persona_pg.cli.monitor_feed import follow

        queue.database.patience = float("inf")
        follow(queue, after, ref=job and str(queue.resolve_job(job)), of_type=of_type)
    elif once or (status_file is None and not sys.stdout.isatty()):
        _show_once(queue, span, as_json=as_json)
    else:
        _live(queue, span, status_file)


def _show_once(queue: Queue, span: str | None, *, as_json: bool) -> None:
    if as_json:
        output.put_json(queue.monitor_snapshot(MOST_ROWS))
        return
    width, height = _TEXT_SIZE
    if sys.stdout.isatty():
        width, height = shutil.get_terminal_size()
        height -= 1
    view = Overview(queue) if span is None else Plots(queue, span)
    view.read(width)
    # Plots are as long as they are: here nothing has to fit a screen.
    for line in view.draw(width, height if span is None else sys.maxsize):
        output.put(line.rstrip())


def _live(queue: Queue, span: str | None, status_file: Path | None) -> None:
    with contextlib.ExitStack() as stack:
        file = None if status_file is None else stack.enter_context(StatusFile(status_file))
        has_screen = sys.stdout.isatty() and sys.stdin.isatty()
        wishes = stack.enter_context(_Wishes(reads_keys=has_screen))
        screen = stack.enter_context(_Screen()) if has_screen else None
        watch = stack.enter_context(Watch(queue.database))
        # An outage is shown and not sat out in a call, where no key is heard.
        queue.database.patience = _PATIENCE
        view = Overview(queue) if span is None else Plots(queue, span)
        _Live(view, watch, wishes, screen, file).run()


class _Live:
    """Reads after a change, writes what it has read; one thing at a time."""

    def __init__(
        self,
        view: Overview | Plots,
        watch: Watch,
        wishes: _Wishes,
        screen: _Screen | None,
        file: StatusFile | None,
    ) -> None:
        self._view = view
        self._watch = watch
        self._wishes = wishes
        self._screen = screen
        self._file = file
        self._read_at = float("-inf")
        self._not_before = float("-inf")
        self._note = ""

    def run(self) -> None:
        while not self._wishes.is_over:
            self._read()
            self._wait_for_change()

    def _read(self) -> None:
        began = time.monotonic()
        try:
            self._view.read(shutil.get_terminal_size().columns)
        except (DatabaseUnreachable, TryLater) as exc:
            if self._view.snapshot is None and self._file is None:
                raise
            self._note = f"{exc}; trying again"
        else:
            self._note = ""
            if self._file is not None and self._view.snapshot is not None:
                self._file.write(self._view.snapshot)
        self._read_at = time.monotonic()
        spent = self._read_at - began
        self._not_before = self._read_at + max(_COALESCED, spent / _SHARE - spent)
        self._paint()

    def _paint(self) -> None:
        if self._screen is not None:
            width, height = shutil.get_terminal_size()
            self._screen.paint(
                self._view.draw(width, height - 1, time.monotonic() - self._read_at, self._note)
            )

    def _wait_for_change(self) -> None:
        """Wait for news, painting the passing time meanwhile; then let more news gather."""
        while not self._wishes.is_over:
            before = self._watch.changes
            self._watch.wait(self._until_next(), self._wishes.readers)
            self._wishes.heed()
            if self._wishes.wants_paint or self._watch.changes == before:
                self._wishes.wants_paint = False
                self._paint()
            if self._watch.changes != before or time.monotonic() >= self._due_at():
                break
        while not self._wishes.is_over:
            left = self._not_before - time.monotonic()
            if left <= 0:
                return
            select.select(self._wishes.readers, [], [], left)
            self._wishes.heed()

    def _due_at(self) -> float:
        """Return when to read again, though nothing was told."""
        if self._note:
            return self._read_at + _AWAY_RETRY
        due = self._view.seconds_due
        return float("inf") if due is None else self._read_at + max(_COALESCED, due + 0.1)

    def _until_next(self) -> float | None:
        due = self._due_at() - time.monotonic()
        if self._screen is not None:
            due = min(due, _REPAINTED)
        return None if due == float("inf") else max(0.0, due)


class _Wishes:
    """What the person at the terminal wants: keys, signals, another size."""

    def __init__(self, *, reads_keys: bool) -> None:
        self._reader, self._writer = os.pipe()
        self._before: dict[int, Any] = {}
        self.readers = [self._reader, *([sys.stdin.fileno()] if reads_keys else [])]
        self.is_over = False
        self.wants_paint = False

    def __enter__(self) -> Self:
        os.set_blocking(self._writer, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"w" if number == signal.SIGWINCH else b"q")

    def heed(self) -> None:
        """Take in what has been wished for, without waiting."""
        for reader in select.select(self.readers, [], [], 0)[0]:
            keys = os.read(reader, 64)
            if b"q" in keys or b"\x03" in keys or (not keys and reader != self._reader):
                self.is_over = True
            self.wants_paint = True


class _Screen:
    """The terminal's other screen, given back at the end."""

    def __enter__(self) -> Self:
        self._saved = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._write("\x1b[?1049h\x1b[?25l")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._write("\x1b[?25h\x1b[?1049l")
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)

    def paint(self, lines: list[str]) -> None:
        # Each line is ended where it ends, and what was below is wiped: no flicker.
        self._write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def main() -> NoReturn:
    """Run `persona-monitor` with the arguments of the process."""
    sys.exit(edge.run(monitor_command, sys.argv[1:], "persona-monitor"))
