"""The lease of one execution: when it must be over, by our own clock.

It counts from the moment the last good heartbeat was sent, on a clock that counts sleep.
"""

from __future__ import annotations

from persona_pg.runner import procfs
from persona_pg.runner.records import AFTER_SLEEP_SECONDS

# Time kept between the end of our kill and the end of the lease at the server.
SAFETY = 5.0


class Lease:
    """Deadlines that move with each heartbeat that the server answers."""

    def __init__(self, seconds: float, sent_at: float, grace: float) -> None:
        self._seconds = seconds
        self._base = sent_at
        self._grace = min(grace, seconds / 4)
        self._safety = min(SAFETY, seconds / 10)
        # Set while its processes stand still: then they are killed.
        self._patience_until: float | None = None

    @property
    def fence_at(self) -> float:
        """When to begin killing the tree for want of a heartbeat."""
        if self._patience_until is not None:
            return self._patience_until
        return self._base + self._seconds - self._grace - self._safety

    @property
    def guardian_deadline(self) -> float:
        """When the guardian kills it."""
        return self._base + self._seconds - self._safety / 2

    @property
    def is_suspended(self) -> bool:
        """Tell whether its processes stand still until a heartbeat is answered."""
        return self._patience_until is not None

    def suspend(self) -> None:
        """Note that its processes were stopped: it is not known whose the lease is."""
        self._patience_until = procfs.boottime() + AFTER_SLEEP_SECONDS

    def renew(self, sent_at: float) -> bool:
        """Note a good heartbeat that was sent then; False: it was from before we stood still."""
        before, self._base = self._base, sent_at
        if self._patience_until is not None:
            if self.guardian_deadline <= procfs.boottime():
                self._base = before
                return False
            self._patience_until = None
        return True
