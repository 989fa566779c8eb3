"""What the guardian does to the runner: it may die, and it may have had to kill."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.process import Processes
    from persona_pg.runner.roster import Roster

log = logging.getLogger("persona.runner")

_RETRY_SECONDS = 1.0


class Oversight:
    """Sees that there is always a guardian, and believes what it says."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: GuardianLink,
        processes: Processes,
        roster: Roster,
        *,
        kick: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._link = link
        self._processes = processes
        self._roster = roster
        self._kick = kick
        link.on_lost = self._lost
        link.on_killed = self._killed

    def _lost(self) -> None:
        log.error("the guardian died; starting another one")
        try:
            self._processes.exempt(self._link.restart())
        except OSError as exc:
            # Until there is one, no job is started.
            log.error("there is no new guardian yet: %s", exc)  # noqa: TRY400
            self._loop.call_later(_RETRY_SECONDS, self._lost)
        self._roster.fill()
        self._kick()

    def _killed(self, token: int) -> None:
        for execution in self._roster:
            if execution.token == token:
                execution.stop("lease", force=True)
