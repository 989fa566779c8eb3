"""The feed of events as lines of JSON, each with the cursor that resumes behind it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from persona_pg.cli import documents, output
from persona_pg.watch import Watch

if TYPE_CHECKING:
    from persona_pg.queue import Queue

_PAGE = 500
_FIRST_LOOK, _LONGEST_LOOK = 0.001, 1.0


def follow(queue: Queue, after: str | None, *, ref: str | None, of_type: str | None) -> None:
    """Print events as they come, for ever."""
    cursor = queue.event_cursor() if after is None else after
    with Watch(queue.database) as watch:
        while True:
            # What has just been committed shows once everything older has ended, too.
            target, delay = queue.snapshot_bounds()[1], _FIRST_LOOK
            while True:
                oldest, _ = queue.snapshot_bounds()
                cursor = _print_new(queue, cursor, ref, of_type)
                if oldest >= target:
                    break
                watch.wait(delay)
                delay = min(2 * delay, _LONGEST_LOOK)
            watch.wait()


def _print_new(queue: Queue, cursor: str, ref: str | None, of_type: str | None) -> str:
    while True:
        page = queue.list_events(cursor, max_rows=_PAGE, ref=ref, of_type=of_type)
        if page:
            cursor = page[-1].next_cursor
            output.put_jsonl(documents.of_event(event) for event in page)
            sys.stdout.flush()
        if len(page) < _PAGE:
            return cursor
