"""One open stream: server-sent events, as many of them as the other side takes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PING = 15.0
# Events that one who was away, or is slow, is told of.
MOST_HAPPENED = 50


class Viewer:
    """One open stream: what is still to be sent to it, bounded whatever happens."""

    def __init__(self, page: str, seen: str, cursor: str | None, log_at: str | None) -> None:
        self.page = page
        self.seen = seen
        self.cursor = cursor
        self.log_at = log_at
        self.is_over = False
        self._wake = asyncio.Event()
        self._content: str | None = None
        self._happened: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._state: str | None = None

    def show(self, content: str, version: str) -> None:
        """Send the page as it is now; what was not sent yet of it is out of date."""
        if version != self.seen:
            self.seen, self._content = version, content
            self._wake.set()

    def tell(self, happened: list[dict[str, Any]], cursor: str) -> None:
        """Send what has happened."""
        self.cursor = cursor
        if happened:
            self._happened = (self._happened + happened)[-MOST_HAPPENED:]
            self._wake.set()

    def print(self, chunk: str, place: str, *, most: int) -> None:
        """Send log lines; one who does not keep up gets the latest."""
        self.log_at = place
        self._lines.append(chunk)
        while sum(map(len, self._lines)) > most and len(self._lines) > 1:
            self._lines.pop(0)
        self._wake.set()

    def say(self, state: str) -> None:
        """Tell whether the database is there."""
        self._state = state
        self._wake.set()

    def end(self) -> None:
        """End the stream."""
        self.is_over = True
        self._wake.set()

    async def messages(self) -> AsyncIterator[str]:
        """Yield server-sent events."""
        yield "retry: 1000\n\n"
        while not self.is_over:
            try:
                async with asyncio.timeout(_PING):
                    await self._wake.wait()
            except TimeoutError:
                yield ": still here\n\n"
                continue
            self._wake.clear()
            for message in self._take():
                yield message

    def _take(self) -> list[str]:
        place = f"{self.cursor or ''};{self.log_at or ''}"
        found: list[str] = []
        if self._state is not None:
            found.append(_message("state", self._state, place))
            self._state = None
        if self._content is not None:
            found.append(_message("page", [self.seen, self._content], place))
            self._content = None
        if self._happened:
            found.append(_message("happened", self._happened, place))
            self._happened = []
        if self._lines:
            found.append(_message("log", "".join(self._lines), place))
            self._lines = []
        return found


def version_of(content: str) -> str:
    """Name the content of a page: a viewer that has this one is not sent it again."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _message(kind: str, data: Any, place: str) -> str:
    """Write one server-sent event; JSON has no line break of its own."""
    return f"id: {place}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
