"""Listens in a thread of its own, and tells the loop."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING
from uuid import UUID

from persona_pg.watch import Watch

if TYPE_CHECKING:
    import asyncio

    from persona_pg.database import Database


class Ear:
    """The one LISTEN of a dashboard."""

    def __init__(
        self, database: Database, loop: asyncio.AbstractEventLoop, kick: asyncio.Event
    ) -> None:
        self._watch = Watch(database)
        self._loop = loop
        self._kick = kick
        self._lock = threading.Lock()
        self._is_over = False
        self._changes = self._seen = 0
        self._logs: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._followed: frozenset[str] = frozenset()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="dashboard ear", daemon=True)
        self._thread.start()

    def take_change(self) -> bool:
        """Tell whether something may have changed since the last call."""
        with self._lock:
            changed = self._changes != self._seen
            self._seen = self._changes
        return changed

    def take_logs(self) -> set[str]:
        """Return the jobs that may have new log lines."""
        with self._lock:
            logs, self._logs = self._logs, set()
        return logs

    def follow(self, job_ids: frozenset[str]) -> None:
        """Hear of log lines of these jobs."""
        if job_ids != self._wanted:
            self._wanted = job_ids
            self._nudge()

    def close(self) -> None:
        """End the thread and the connection."""
        self._is_over = True
        self._nudge()
        self._thread.join(10)
        if not self._thread.is_alive():
            os.close(self._reader)
            os.close(self._writer)

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b".")

    def _run(self) -> None:
        with self._watch as watch:
            while not self._is_over:
                if self._followed != self._wanted:
                    self._followed = self._wanted
                    watch.follow([UUID(job_id) for job_id in sorted(self._followed)])
                watch.wait(wake=[self._reader])
                with self._lock:
                    news = watch.take_logs()
                    is_new = bool(news) or watch.changes != self._changes
                    self._logs |= news
                    self._changes = watch.changes
                while self._has_nudge():
                    os.read(self._reader, 4096)
                if is_new and not self._is_over:
                    with contextlib.suppress(RuntimeError):  # the loop has ended
                        self._loop.call_soon_threadsafe(self._kick.set)

    def _has_nudge(self) -> bool:
        return bool(select.select([self._reader], [], [], 0)[0])
