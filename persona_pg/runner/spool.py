"""What the database has not acknowledged, on disk: for the next start, should this one not live.

Nothing is written while the database takes in what it is sent. A file holds everything that waits,
is replaced as a whole, and is gone once nothing waits. A disk that is full costs nothing but that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import zlib
from typing import TYPE_CHECKING, Any

from persona_pg import connections
from persona_pg.runner.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

log = logging.getLogger("persona.runner")

# What has not been acknowledged for so long is written down.
_FIRST_SECONDS = 2.0
# Log lines that are added to it are written ever less often; a result always with the next look.
_LONGEST_SECONDS = 16.0
_BYTES_AT_MOST = 64 << 20


def path_for(home: Path, name: str, dsn: str) -> Path:
    """Return where a runner of that name keeps what is meant for that database."""
    # Delivered to another database it would be lost.
    return home / "spool" / f"{name}-{zlib.crc32(connections.host_of(dsn).encode()):08x}.jsonl"


class Spool:
    """Watches the outboxes, each with the registration that it belongs to."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        outboxes: Callable[[], Iterable[tuple[str, Outbox]]],
    ) -> None:
        self.path = path
        self._loop = loop
        self._outboxes = outboxes
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._is_on_disk = False
        self._seen = 0  # acknowledged when we last looked
        self._written = (0, 0)  # how many results and bytes of lines were waiting then
        self._rewrite_at = 0.0
        self._pause = _FIRST_SECONDS
        self._has_complained = False

    def watch(self) -> None:
        """Something waits: look in a while whether it still does."""
        if self._timer is None:
            self._seen = self._acknowledged()
            self._timer = self._loop.call_later(_FIRST_SECONDS, self._look)

    def read(self) -> list[tuple[str, Outbox]]:
        """Return what the last runner of this name has left, by registration."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as exc:
            self._complain("read", exc)
            return []
        self._is_on_disk = True
        left: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}
        lines, reports = left.setdefault("", ([], []))
        for entry in content.decode(errors="replace").splitlines():
            try:
                what = json.loads(entry)
                if "runner" in what:
                    lines, reports = left.setdefault(str(what["runner"]), ([], []))
                elif "line" in what:
                    lines.append(entry[len('{"line":') : -1])
                else:
                    reports.append(what["report"])
            except (ValueError, KeyError, TypeError):
                log.warning("%s: left out what nobody can read: %.60s", self.path, entry)
        left.pop("")
        return [(runner_id, Outbox.restored(*parts)) for runner_id, parts in left.items()]

    async def close(self) -> None:
        """Write down what is left for the next start, or leave nothing."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_FIRST_SECONDS)
            if not self._writing.done():
                return  # the disk hangs
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if any(not outbox.is_empty for _, outbox in self._outboxes()):
            self._write(list(self._entries()))
        else:
            self._remove()

    def set_aside(self) -> None:
        """Keep for people what the database refuses for good."""
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_suffix(".refused"))
        self._is_on_disk = False

    def _acknowledged(self) -> int:
        return sum(outbox.acknowledged for _, outbox in self._outboxes())

    def _look(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = self._loop.call_later(_FIRST_SECONDS, self._look)
            return
        waiting = [outbox for _, outbox in self._outboxes() if not outbox.is_empty]
        if not waiting:
            self._remove()
            return
        seen, self._seen = self._seen, self._acknowledged()
        size = sum(o.report_count for o in waiting), sum(o.line_bytes for o in waiting)
        if seen != self._seen:
            self._pause, self._rewrite_at, self._written = _FIRST_SECONDS, 0.0, (0, 0)
        elif size != self._written:
            now = self._loop.time()
            if size[0] != self._written[0] or now >= self._rewrite_at:
                self._pause = min(self._pause * 2, _LONGEST_SECONDS)
                self._rewrite_at = now + self._pause
                self._written = size
                self._begin_write()
        self._timer = self._loop.call_later(_FIRST_SECONDS, self._look)

    def _begin_write(self) -> None:
        entries = list(self._entries())
        try:
            # Not here: a disk that hangs must not keep us from the deadlines of our jobs.
            self._writing = self._loop.run_in_executor(None, self._write, entries)
        except RuntimeError as exc:  # no thread to be had
            self._complain("write", exc)

    def _entries(self) -> Iterator[str]:
        """Results first: of the lines only what the bound leaves room for."""
        room = _BYTES_AT_MOST
        for what in ("reports", "lines"):
            for runner_id, outbox in self._outboxes():
                yield json.dumps({"runner": runner_id})
                for text in getattr(outbox, f"waiting_{what}")():
                    room -= len(text)
                    if room < 0:
                        return
                    yield f'{{"{what[:-1]}":{text}}}'

    def _write(self, entries: list[str]) -> None:
        new = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                try:
                    stream.writelines(f"{entry}\n" for entry in entries)
                    stream.flush()
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(fd, 0)  # somebody may need the room
                    raise
                os.fsync(fd)
            new.replace(self.path)
            self._is_on_disk = True
            self._has_complained = False
        except OSError as exc:
            self._complain("write", exc)

    def _remove(self) -> None:
        self._written = (0, 0)
        if self._is_on_disk:
            self._is_on_disk = False
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _complain(self, verb: str, exc: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.error("cannot %s %s, what waits is in memory only: %s", verb, self.path, exc)
