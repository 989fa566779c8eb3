"""What a runner does for the whole queue now and then: tick, schedules, a look at its own state."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from persona_pg.runner import calls
from persona_pg.runner.session import CHANNELS, StepError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.exchange import Due
    from persona_pg.runner.session import Answer
    from persona_pg.settings import Settings

log = logging.getLogger("persona.runner")

_TICK_SECONDS = 60.0


class Upkeep:
    """When the next tick is due, and the plans that it asked for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_refused: Callable[[StepError], None],
        on_drain: Callable[[], None],
        on_ticked: Callable[[], None],
        on_deaf: Callable[[], None],
    ) -> None:
        self.next_at = 0.0
        self._loop = loop
        self._on_refused = on_refused
        self._on_drain = on_drain
        self._on_ticked = on_ticked
        self._on_deaf = on_deaf
        self._plans: list[dict[str, Any]] = []

    def plans_due(self) -> list[Due]:
        """Return what is to be planned now."""
        if not self._plans:
            return []
        plans, self._plans = self._plans, []
        return [([calls.plan_schedules(plans)], self._planned)]

    def due(self, runner_id: str, settings: Settings) -> Due:
        """Return a tick, with a look at what is wanted of us and at what we hear."""
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
        self.next_at = self._loop.time() + _TICK_SECONDS * spread
        # The queue's own setting holds, unless this runner was told otherwise.
        is_told = "JOB_LOG_RETENTION_DAYS" in settings.sources
        days = settings.log_retention_days if is_told else None
        return (
            [calls.directive(runner_id), calls.tick(days), calls.listening()],
            self._ticked,
        )

    def _ticked(self, answers: list[Answer]) -> None:
        directive, tick, heard = answers
        if isinstance(directive, StepError):
            self._on_refused(directive)
        elif directive == "drain":
            self._on_drain()
        if isinstance(tick, StepError):
            tick.complain("upkeep")
        else:
            self._plan(tick)
        self._on_ticked()
        if not isinstance(heard, StepError) and not set(CHANNELS) <= set(heard):
            # Somebody between us and the server, or a session that was reset: it works, but deaf.
            log.error("this connection hears no notifications any more: opening another one")
            self._on_deaf()

    def _plan(self, tick: dict[str, Any]) -> None:
        """Read the cron expressions that are due, and come back when the next schedule is."""
        if tick.get("to_plan"):
            from persona_pg import schedules

            self._plans = schedules.plan(tick["to_plan"])
            self.next_at = 0.0  # the answer goes first, and then says what is next
        elif (seconds := tick.get("next_schedule_seconds")) is not None:
            # A millisecond more, so that it is due by the server's clock too.
            self.next_at = min(self.next_at, self._loop.time() + seconds + 0.001)

    def _planned(self, answers: list[Answer]) -> None:
        (answer,) = answers
        if isinstance(answer, StepError):
            answer.complain("planning schedules")
            # Whatever it was, it is not tried again without a pause.
            self.next_at = self._loop.time() + _TICK_SECONDS
