"""What takes long to read is kept for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

# Reading takes at most a twentieth of the time: what is quick is fresh, what is slow may be old.
_KEPT = 20
_MOST = 50


class Memo:
    """Results by name, each kept for as long as it was expensive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def get(self, name: Hashable, read: Callable[[], T]) -> T:
        """Return the result of *read*, the last one if that is young enough."""
        started = self._clock()
        until, found = self._kept.get(name, (started, None))
        if started < until:
            return found  # type: ignore[no-any-return]
        result = read()
        ended = self._clock()
        while len(self._kept) >= _MOST:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[name] = (ended + _KEPT * (ended - started), result)
        return result
