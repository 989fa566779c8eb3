"""The few connections that all requests share."""

from __future__ import annotations

import asyncio
import queue as queues
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from persona_pg.database import Database
from persona_pg.looks import Looks
from persona_pg.plans import Plans
from persona_pg.queue import Queue
from persona_pg.web.memo import Memo

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE = 1.0
_DEADLINE = 20.0


@dataclass(frozen=True)
class Source:
    """One connection, with the clients that speak over it."""

    queue: Queue
    looks: Looks
    plans: Plans
    memo: Memo


class Sources:
    """Lends one of a few connections to one piece of work at a time; the others wait in line."""

    def __init__(self, dsn: str, size: int = 2) -> None:
        memo = Memo()
        self._all = [_open(dsn, memo) for _ in range(size)]
        self._free: queues.LifoQueue[Source] = queues.LifoQueue()
        for one in self._all:
            self._free.put(one)
        self._turn = asyncio.Semaphore(size)

    @property
    def database(self) -> Database:
        """Say where the database is."""
        return self._all[0].queue.database

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call work(source, ...) in a thread."""
        async with self._turn:
            return await asyncio.to_thread(self._lend, work, *arguments)

    def _lend(self, work: Callable[..., T], *arguments: Any) -> T:
        source = self._free.get_nowait()
        try:
            return work(source, *arguments)
        finally:
            self._free.put(source)

    def close(self) -> None:
        """Close the connections."""
        for one in self._all:
            one.queue.close()


def _open(dsn: str, memo: Memo) -> Source:
    database = Database(
        dsn,
        application_name="persona dashboard",
        patience=_PATIENCE,
        first_contact=_PATIENCE,
        deadline=_DEADLINE,
    )
    return Source(Queue(database), Looks(database), Plans(database), memo)
