"""How a runner ends: no new jobs, those that run may finish, then they are given back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.configuration import Configuration
    from persona_pg.runner.notify import Notifier
    from persona_pg.runner.roster import Roster

log = logging.getLogger("persona.runner")

# After the drain timeout, so long for killing, reporting and an absent database.
_LAST_WORDS_SECONDS = 60.0


class Shutdown:
    """Begun at most once; hurried by a second signal, or by a fault of ours."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        configuration: Configuration,
        roster: Roster,
        notifier: Notifier,
        *,
        kick: Callable[[], None],
    ) -> None:
        self.has_failed = False
        self._loop = loop
        self._configuration = configuration
        self._roster = roster
        self._notifier = notifier
        self._kick = kick
        self._deadline: float | None = None

    @property
    def is_begun(self) -> bool:
        """Tell whether no job is started any more."""
        return self._deadline is not None

    @property
    def exit_code(self) -> int:
        """Return the runner's exit code."""
        return 1 if self.has_failed else 0

    @property
    def last_at(self) -> float | None:
        """Return when it ends, whatever has not been delivered by then."""
        return None if self._deadline is None else self._deadline + _LAST_WORDS_SECONDS

    def begin(self) -> None:
        """Take no more jobs; give back what has not finished when the drain timeout is over."""
        if self._deadline is None:
            self._begin(self._configuration.drain_seconds)

    def demand(self) -> None:
        """Begin; or, if it is begun, give everything back now."""
        if self._deadline is None:
            self.begin()
            return
        log.info("told to end a second time: giving all jobs back")
        self._deadline = self._loop.time()
        self._roster.stop_all("drain")
        self._kick()

    def fail(self) -> None:
        """End at once: what we do not understand must not go on."""
        self.has_failed = True
        if self._deadline is None:
            self._begin(0.0)
        self._deadline = self._loop.time()
        self._roster.stop_all("drain", force=True)

    def is_over(self, *, is_delivered: bool) -> bool:
        """Tell whether nothing is left to be waited for, once nothing runs any more."""
        late = self.last_at is not None and self._loop.time() > self.last_at
        if late and not is_delivered:
            log.error("ending without having delivered all results: no database")
        return late or is_delivered

    def _begin(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        self._loop.call_later(seconds, self._roster.stop_all, "drain")
        self._roster.stop_waiting()
        log.info("ending: no new jobs, %d running", len(self._roster))
        self._notifier.stopping(f"draining, {len(self._roster)} running")
        self._notifier.extend_timeout(seconds + _LAST_WORDS_SECONDS)
        self._kick()
