"""How often the runner looks at all processes: it takes time, and may fail."""

from __future__ import annotations

import asyncio

LOOK_AGAIN_SECONDS = 0.1
# A look at all processes that took t is followed by none for 9 t: a tenth of the time at most.
_PAUSE_PER_COST = 9.0
_CHEAP_SECONDS = 0.0005


class Pace:
    """When to look again, at the earliest."""

    def __init__(self) -> None:
        self.not_before = 0.0

    def rest(self) -> None:
        """Look again in a moment."""
        self.not_before = asyncio.get_running_loop().time() + LOOK_AGAIN_SECONDS

    def look_failed(self, error: Exception) -> None:
        """Look again in a moment; say so where the fault is ours."""
        self.rest()
        if not isinstance(error, OSError):
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "looking at processes", "exception": error})

    def pause_after(self, cost: float) -> None:
        """Keep walks through /proc to a tenth of the time; the cheap list of children is free."""
        if cost > _CHEAP_SECONDS:
            pause = min(cost * _PAUSE_PER_COST, LOOK_AGAIN_SECONDS)
            self.not_before = asyncio.get_running_loop().time() + pause
