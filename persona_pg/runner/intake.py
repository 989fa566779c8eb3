"""From the claim to the execution: how many jobs to ask for, and starting those that came."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Any

from persona_pg.runner.execution import Execution
from persona_pg.runner.logs import about
from persona_pg.runner.session import StepError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from persona_pg.runner.claims import ClaimCycle
    from persona_pg.runner.configuration import Configuration
    from persona_pg.runner.deliveries import Deliveries
    from persona_pg.runner.exchange import Due
    from persona_pg.runner.execution import Equipment
    from persona_pg.runner.heartbeats import Heartbeats
    from persona_pg.runner.limits import LimitWatch
    from persona_pg.runner.notify import Notifier
    from persona_pg.runner.registration import Registration
    from persona_pg.runner.roster import Roster
    from persona_pg.runner.session import Answer

log = logging.getLogger("persona.runner")

_LOGGED_COMMAND = 200


class Intake:
    """Claims what there are slots for, and begins it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        configuration: Configuration,
        equipment: Equipment,
        *,
        registration: Registration,
        roster: Roster,
        deliveries: Deliveries,
        heartbeats: Heartbeats,
        limits: LimitWatch,
        notifier: Notifier,
        kick: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._configuration = configuration
        self._equipment = equipment
        self._registration = registration
        self._roster = roster
        self._deliveries = deliveries
        self._heartbeats = heartbeats
        self._limits = limits
        self._notifier = notifier
        self._kick = kick
        # None: as many as there are.
        self._claims_left = 1 if configuration.options.once else None

    @property
    def is_over(self) -> bool:
        """Tell whether as many jobs were taken as were to be taken at all."""
        return self._claims_left == 0

    @property
    def is_drained(self) -> bool:
        """Tell whether nothing claimable is left, for certain."""
        cycle = self._registration.cycle
        return cycle is not None and cycle.is_asleep

    def next_at(self) -> float | None:
        """Return the loop's time when to claim next; None: somebody will tell us."""
        cycle = self._registration.cycle
        if cycle is None or cycle.next_at is None or not self._wanted():
            return None
        return max(cycle.next_at, self._roster.rest_until)

    def due(self, now: float, sent_at: float) -> tuple[Due | None, bool]:
        """Return the claim to send now, and whether something has come due in our sleep."""
        cycle = self._cycle
        wanted = self._wanted() if now >= self._roster.rest_until else 0
        is_something_due = wanted > 0 and cycle.is_something_due(now)
        steps = cycle.steps(wanted, now)
        due = (steps, lambda answers: self._claimed(answers, sent_at)) if steps else None
        return due, is_something_due

    def again(self) -> None:
        """Claim soon: there may be work, or a slot for it."""
        self._roster.fill()
        if self._registration.cycle is not None:
            self._registration.cycle.wake()
        self._kick()

    def notified(self) -> None:
        """Claim soon: somebody says that there is work."""
        cycle = self._registration.cycle
        if cycle is not None and cycle.notified(self._loop.time()):
            self._kick()

    def start_over(self) -> None:
        """Claim soon: nobody may have told us of work, as if we had not been there."""
        if self._registration.cycle is not None:
            self._registration.cycle.start_over()
        self._kick()

    def show_status(self) -> None:
        """Tell the service manager how much is running."""
        if self._notifier.enabled:
            total = self._configuration.concurrency
            self._notifier.status(f"{len(self._roster)}/{total} running")

    @property
    def _cycle(self) -> ClaimCycle:
        cycle = self._registration.cycle
        assert cycle is not None
        return cycle

    def _wanted(self) -> int:
        return 0 if self.is_over else self._roster.wanted()

    def _claimed(self, answers: list[Answer], sent_at: float) -> None:
        cycle, now = self._cycle, self._loop.time()
        errors = [answer for answer in answers if isinstance(answer, StepError)]
        for error in errors:
            self._registration.refused(error)
        jobs = cycle.failed(answers, now) if errors else cycle.take(answers, now)
        # One at a time, where only one is wanted at all.
        self._roster.ahead.is_queue_deep = cycle.is_queue_deep and self._claims_left is None
        for job in jobs:
            if self._claims_left is not None:
                self._claims_left -= 1
            self._start(job, sent_at)

    def _start(self, job: dict[str, Any], sent_at: float) -> None:
        self._roster.add(
            Execution(
                job,
                self._configuration.settings,
                self._equipment,
                outbox=self._deliveries.current.outbox,
                lease_base=sent_at,
                on_start=self._on_start,
                on_end=self._on_end,
            )
        )
        self.show_status()

    def _on_start(self, execution: Execution, argv: Sequence[str]) -> None:
        self._heartbeats.started(execution)
        self._limits.arm()
        if self._configuration.options.verbose:
            job = execution.job
            line = shlex.join(argv)[:_LOGGED_COMMAND]
            log.info(
                "job %s (%s): started %s", job["short_id"], job["agent"], line, extra=about(job)
            )

    def _on_end(self, execution: Execution) -> None:
        self._heartbeats.ended(execution)
        self._roster.ended(execution)
        self.again()
        self._deliveries.on_output()
        self.show_status()
