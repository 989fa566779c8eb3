"""The service manager's watchdog: fed by the loop for as long as the loop gets on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from persona_pg.runner.notify import Notifier

# One turn of the loop may wait for a database that does not answer: for the whole deadline of an
# exchange, and for as long again while it connects. What takes longer than this is a fault of ours.
_LONGEST_TURN = 90.0


class Watchdog:
    """Says WATCHDOG=1 in time, unless a turn of the loop does not end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, notifier: Notifier, interval: float | None
    ) -> None:
        self._loop = loop
        self._notifier = notifier
        self._interval = interval
        self._turn_began: float | None = None
        if interval is not None:
            self._tell(interval / 2)

    def begin_turn(self) -> None:
        """Note that the loop has something to do."""
        self._turn_began = self._loop.time()

    def end_turn(self) -> None:
        """Note that it has done it, and may sleep for as long as it likes."""
        self._turn_began = None

    def _tell(self, pause: float) -> None:
        if self._turn_began is None or self._loop.time() - self._turn_began < _LONGEST_TURN:
            self._notifier.watchdog()
        self._loop.call_later(pause, self._tell, pause)
