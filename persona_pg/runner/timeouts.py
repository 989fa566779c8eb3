"""The two clocks of an execution: how long it may take in all, and how long it may be silent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Timeouts:
    """Armed when the program has started."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        total: float,
        idle: float | None,
        on_expired: Callable[[Literal["timeout", "idle_timeout"]], None],
    ) -> None:
        self.total = total
        self.idle = idle
        self._loop = loop
        self._on_expired = on_expired
        self._last_output_at: Callable[[], float] = float
        self._is_excused: Callable[[], bool] = bool
        self._excused_until = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def arm(self, last_output_at: Callable[[], float], is_excused: Callable[[], bool]) -> None:
        """Begin to count; while it is excused its silence is no sign of anything."""
        self._last_output_at = last_output_at
        self._is_excused = is_excused
        self._timers.append(self._loop.call_later(self.total, self._on_expired, "timeout"))
        if self.idle is not None:
            self._look_in(self.idle)

    def excuse_ends(self) -> None:
        """Count the silence from now on."""
        self._excused_until = time.monotonic()

    def cancel(self) -> None:
        """Count no more."""
        for timer in self._timers:
            timer.cancel()

    def _look_in(self, seconds: float) -> None:
        # The one for silence comes after that for the whole.
        self._timers[1:] = [self._loop.call_later(seconds, self._look_for_silence)]

    def _look_for_silence(self) -> None:
        assert self.idle is not None
        silent = time.monotonic() - max(self._last_output_at(), self._excused_until)
        if self._is_excused():
            self._look_in(self.idle)
        elif silent >= self.idle:
            self._on_expired("idle_timeout")
        else:
            self._look_in(self.idle - silent)
