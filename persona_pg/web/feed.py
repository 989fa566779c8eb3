"""One LISTEN for all viewers: what has changed is read once and sent to everybody who looks at it.

A viewer looks at one page.  All viewers of a page share one rendering of it, made again when the
database tells of a change, a few times a second at most and never for more than a part of the
time: however much happens and however many look, the database has one reader.  While nobody looks
nothing listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from persona_pg.errors import DatabaseUnreachable, InvalidInput, PersonaError, TryLater
from persona_pg.web.ear import Ear
from persona_pg.web.logtail import LogTails
from persona_pg.web.viewer import MOST_HAPPENED, Viewer, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.model import Event
    from persona_pg.web.sources import Source, Sources

log = logging.getLogger(__name__)

_COALESCED = 0.25
# Of the time, at most this part is spent on reading.
_SHARE = 0.25
# What no notification tells of: heartbeats, leases that run out, runners that are gone.
_REFRESHED = 10.0
_MOST_VIEWERS = 500
_EVENT_PAGE = 200
_AWAY_RETRY = 1.0
# A change of which no event tells yet: another transaction may hold the feed of events back.
_FIRST_LOOK, _LONGEST_LOOK = 0.5, 8.0


class Full(Exception):
    """There are as many viewers as we serve."""


class _Page:
    """A page that somebody looks at."""

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.content: str | None = None
        self.version = ""
        self.job_id: Any = None


class Feed:
    """Keeps every open page up to date."""

    def __init__(self, sources: Sources, render: Callable[[Source, str], tuple[str, Any]]) -> None:
        self._sources = sources
        self._render = render
        self._pages: dict[str, _Page] = {}
        self._joining: list[Viewer] = []
        self._kick = asyncio.Event()
        self._cursor: str | None = None
        self._tails = LogTails(sources)
        self._is_hurried = False
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        self._look_delay = _FIRST_LOOK
        self._look_at = float("inf")

    @property
    def viewers(self) -> list[Viewer]:
        """Everybody who looks."""
        return [v for page in self._pages.values() for v in page.viewers] + self._joining

    def join(self, page: str, *, seen: str, place: str | None) -> Viewer:
        """Look at a page from now on; *place* is the last event id of a stream that broke."""
        if len(self.viewers) >= _MOST_VIEWERS:
            raise Full
        cursor, _, log_at = (place or "").partition(";")
        viewer = Viewer(page, seen, cursor or None, log_at or None)
        self._joining.append(viewer)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="dashboard feed")
        self._kick.set()
        return viewer

    def hurry(self) -> None:
        """Show at once what somebody has just done here: not all of it is notified."""
        self._is_hurried = True
        self._kick.set()

    def leave(self, viewer: Viewer) -> None:
        """Look no longer."""
        viewer.end()
        with contextlib.suppress(ValueError):
            self._joining.remove(viewer)
        self._tails.leave(viewer)
        page = self._pages.get(viewer.page)
        if page is not None:
            page.viewers.discard(viewer)
            if not page.viewers:
                del self._pages[viewer.page]
        self._kick.set()

    async def close(self) -> None:
        """End all streams."""
        for viewer in self.viewers:
            viewer.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        # Again, for who has come while the ear was being closed: a page after another one.
        while self.viewers:
            ear = Ear(self._sources.database, asyncio.get_running_loop(), self._kick)
            try:
                await self._look_after_viewers(ear)
            finally:
                await asyncio.to_thread(ear.close)

    async def _look_after_viewers(self, ear: Ear) -> None:
        read_at = float("-inf")
        while self.viewers:
            started = time.monotonic()
            try:
                changed = ear.take_change() or started - read_at >= _REFRESHED or self._is_hurried
                self._is_hurried = False
                if changed or self._is_away:
                    read_at = started
                    self._look_delay = _FIRST_LOOK
                    await self._read_pages(draws_all=True)
                elif started >= self._look_at:
                    await self._read_pages(draws_all=False)
                await self._welcome()
                await self._tails.read(ear.take_logs())
                ear.follow(self._tails.job_ids)
                self._set_away(False)
            except (DatabaseUnreachable, TryLater) as exc:
                log.debug("the feed waits: %s", exc)
                self._set_away(True)
            except Exception:
                # The viewers would wait for ever: say so, and go on.
                log.exception("the feed has failed once")
                self._set_away(True)
            spent = time.monotonic() - started
            await asyncio.sleep(max(_COALESCED, spent / _SHARE - spent))
            await self._wait(min(read_at + _REFRESHED, self._look_at) - time.monotonic())

    async def _wait(self, seconds: float) -> None:
        if self._is_away:
            seconds = min(seconds, _AWAY_RETRY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._kick.wait()
        self._kick.clear()

    async def _read_pages(self, *, draws_all: bool) -> None:
        """Read what has happened, then every page that it may concern."""
        happened = await self._sources.run(_events, self._cursor)
        self._cursor, events = happened
        self._look_at = float("inf")
        if not events and self._look_delay < _LONGEST_LOOK:
            self._look_at = time.monotonic() + self._look_delay
            self._look_delay *= 2
        touched = {event.job_id for event in events}
        told = [_described(event) for event in events]
        for key, page in list(self._pages.items()):
            # A job that has ended stays as it is, until an event says otherwise.
            if page.job_id in touched or (draws_all and page.job_id is None):
                await self._draw(key, page)
            for viewer in page.viewers:
                viewer.tell(told, self._cursor)

    async def _draw(self, key: str, page: _Page) -> None:
        try:
            content, page.job_id = await self._sources.run(self._render, key)
        except (DatabaseUnreachable, TryLater):
            raise
        except PersonaError as exc:
            log.debug("%s cannot be shown: %s", key, exc)
            return
        page.content = content
        page.version = version_of(content)
        for viewer in page.viewers:
            viewer.show(content, page.version)

    async def _welcome(self) -> None:
        """Bring those who have just come to where the others are."""
        missed: dict[str, list[dict[str, Any]]] = {}
        if self._cursor is None and self._joining:
            self._cursor, _ = await self._sources.run(_events, None)
        while self._joining:
            viewer = self._joining[0]
            page = self._pages.setdefault(viewer.page, _Page())
            if page.content is None:
                await self._draw(viewer.page, page)
            if viewer.cursor is not None and viewer.cursor not in missed:
                missed[viewer.cursor] = await self._sources.run(
                    _missed, viewer.cursor, self._cursor
                )
            await self._tails.join(viewer)
            if viewer not in self._joining:
                continue  # it has left meanwhile
            self._joining.remove(viewer)
            page.viewers.add(viewer)
            if page.content is not None:
                viewer.show(page.content, page.version)
            assert self._cursor is not None
            viewer.tell(missed.get(viewer.cursor or "", []), self._cursor)
        for key in [key for key, page in self._pages.items() if not page.viewers]:
            del self._pages[key]

    def _set_away(self, is_away: bool) -> None:
        if is_away != self._is_away:
            self._is_away = is_away
            for viewer in self.viewers:
                viewer.say("away" if is_away else "back")


def _events(source: Source, cursor: str | None) -> tuple[str, list[Event]]:
    if cursor is None:
        return source.queue.event_cursor(), []
    try:
        events = source.queue.list_events(cursor, max_rows=_EVENT_PAGE)
    except InvalidInput:  # another server, or a backup restored
        return source.queue.event_cursor(), []
    if len(events) == _EVENT_PAGE:
        # More than anybody reads: the latest state is what counts.
        return source.queue.event_cursor(), events
    return (events[-1].next_cursor if events else cursor), events


def _missed(source: Source, cursor: str, until: str) -> list[dict[str, Any]]:
    """Return what happened behind a cursor, as far as everybody else has been told."""
    if cursor == until:
        return []
    try:
        events = source.queue.list_events(cursor, max_rows=MOST_HAPPENED)
    except InvalidInput:
        return []
    end = _order(until)
    return [_described(event) for event in events if _order(event.next_cursor) <= end]


def _order(cursor: str) -> tuple[Any, ...]:
    """Return what cursors are ordered by; one without an event comes first of its number."""
    xid, *rest = cursor.split(".")
    return (int(xid), *map(int, rest[:2]), *rest[2:])


def _described(event: Event) -> dict[str, Any]:
    data = event.data or {}
    job = None if event.job_id is None else str(event.job_id)
    return {
        "at": event.at.isoformat(),
        "type": event.event_type,
        "job": job,
        "words": str(data.get("error") or data.get("type") or "")[:200],
    }
