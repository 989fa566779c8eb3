"""Self-fencing: a job is killed before its lease can end at the server.

The deadline runs from the moment the last good heartbeat was sent, on a clock that counts sleep.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from persona_pg.runner import procfs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from persona_pg.runner.execution import Execution

log = logging.getLogger("persona.runner")

# The timer's clock stops while the machine sleeps, the leases' clock does not.
_LONGEST_WAIT = 10.0


class Fence:
    """Wakes when the first lease can no longer be renewed in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executions: Callable[[], Collection[Execution]]
    ) -> None:
        self._loop = loop
        self._executions = executions
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Look at all leases again: some have been renewed, or granted, or are gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = min((e.fence_at for e in self._executions() if not e.is_fenced), default=None)
        if at is not None:
            wait = min(max(0.0, at - procfs.boottime()), _LONGEST_WAIT)
            self._timer = self._loop.call_later(wait, self._look)

    def _look(self) -> None:
        now = procfs.boottime()
        for execution in list(self._executions()):
            if execution.fence_at <= now and not execution.is_fenced:
                log.error("job %s: no heartbeat got through, killing it", execution.job["short_id"])
                execution.stop("lease")
        self._timer = None
        self.arm()
