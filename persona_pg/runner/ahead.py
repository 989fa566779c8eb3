"""How many jobs to claim before there is a slot for them.

A job that takes a few milliseconds is over before the next one could be claimed, so its slot would
stand empty for most of the time. While jobs end so fast, and the queue has given all that was asked
of it, as many are claimed ahead as begin within a moment. One that has to wait all the same is
given back soon.
"""

from __future__ import annotations

# What will begin within so long is claimed ahead.
_SECONDS = 0.06
_MOST = 64
# Each end counts for so much of the mean interval between ends.
_WEIGHT = 0.2
_LONGEST_INTERVAL = 1.0
# A job that was claimed ahead and has waited for so long is given back.
PATIENCE_SECONDS = 0.25


class Ahead:
    """Watches how fast jobs end here."""

    def __init__(self) -> None:
        self._interval = _LONGEST_INTERVAL
        self._ended_at = 0.0
        # The queue held at least as much as was last asked for.
        self.is_queue_deep = False

    def ended(self, now: float) -> None:
        """Note that a job has ended."""
        interval = min(now - self._ended_at, _LONGEST_INTERVAL)
        self._ended_at = now
        self._interval += _WEIGHT * (interval - self._interval)

    def count(self, now: float) -> int:
        """Return how many jobs may wait for a slot now."""
        if not self.is_queue_deep:
            return 0
        # Silence counts too: the jobs of this moment are perhaps of another kind.
        return min(int(_SECONDS / max(self._interval, now - self._ended_at, 1e-6)), _MOST)

    def was_wrong(self) -> None:
        """Note that a job has waited in vain."""
        self._interval = _LONGEST_INTERVAL
