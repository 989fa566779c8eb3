"""Self-fencing: a job is killed before its lease can end at the server.

The deadline runs from the moment the last good heartbeat was sent, on a clock that counts sleep.

Who notices it in time kills.  Who comes too late (the machine was asleep, the whole service was
stopped) cannot know whether the lease is somebody else's by now: the trees are stopped first, and
then a heartbeat asks.  Stopped, they do nothing that another execution could collide with; a laptop
that slept alone finds its leases untaken and does not pay for its jobs a second time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from persona_pg.runner import procfs
from persona_pg.runner.boottimer import BootTimer
from persona_pg.runner.logs import about

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.roster import Roster

log = logging.getLogger("persona.runner")

# Later than this is too late for killing in good time.
_LATE_SECONDS = 1.0


class Fence:
    """Wakes when the first lease can no longer be renewed in time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        *,
        freeze: Callable[..., None],
        ask: Callable[[], None],
    ) -> None:
        """*freeze* stops the trees of children, *ask* sends a heartbeat as soon as possible."""
        self._freeze = freeze
        self._roster = roster
        self._ask = ask
        self._timer = BootTimer(loop, self._look)
        self._armed_for: float | None = None

    def arm(self) -> None:
        """Look at all leases again: some have been renewed, or granted, or are gone."""
        at = min((e.fence_at for e in self._roster if not e.is_fenced), default=None)
        if at != self._armed_for:
            self._armed_for = at
            self._timer.arm(at)

    def close(self) -> None:
        """Stop watching."""
        self._timer.close()

    def _look(self) -> None:
        now = procfs.boottime()
        late = [e for e in self._roster if e.fence_at <= now and not e.is_fenced]
        asleep = [e for e in late if now - e.fence_at > _LATE_SECONDS and not e.is_suspended]
        if asleep:
            try:
                # All by one look: for as long as this takes they run on.
                self._freeze(*(e.child for e in asleep if e.child is not None))
            except OSError as exc:
                log.error("cannot stop processes: %s", exc)  # noqa: TRY400
                asleep = []
        for execution in asleep:
            log.warning(
                "job %s: we were away past its lease", execution.job["short_id"],
                extra=about(execution.job),
            )  # fmt: skip
            execution.suspended()
        for execution in late:
            if execution not in asleep:
                log.error(
                    "job %s: no heartbeat got through, killing it", execution.job["short_id"],
                    extra=about(execution.job),
                )  # fmt: skip
                execution.stop("lease")
        if asleep:
            self._ask()
        self._armed_for = None
        self.arm()
