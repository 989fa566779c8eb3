"""The executions of a runner: who has a slot, who waits for one, and how many more to claim."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from persona_pg.runner.ahead import PATIENCE_SECONDS, Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persona_pg.runner.ending import Reason
    from persona_pg.runner.execution import Execution

log = logging.getLogger("persona.runner")

# So many jobs may wait for what they delegated; then no more are claimed.
_MOST_WAITING = 100
# After a program could not be started for want of processes or memory: doubling up to this.
_LONGEST_REST_SECONDS = 30.0


class Roster:
    """All executions that have not ended, by job and lease."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        slots: Callable[[], int],
        taken: Callable[[], int],
        on_fault: Callable[[], None],
    ) -> None:
        """*slots* is how many there are, *taken* how many of them those have that were begun."""
        self._loop = loop
        self._slots = slots
        self._taken = taken
        self._on_fault = on_fault
        self._all: dict[tuple[str, int], Execution] = {}
        # Claimed before there is a slot for them, and since when.
        self._waiting: dict[Execution, float] = {}
        self._patience: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.ahead = Ahead()
        # Until then nothing is started here.
        self.rest_until = 0.0
        self._rest_seconds = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._all.values())

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Job and lease of each."""
        return list(self._all)

    @property
    def begun(self) -> int:
        """How many do not wait for a slot."""
        return len(self._all) - len(self._waiting)

    @property
    def has_waiting(self) -> bool:
        """Tell whether there are jobs that begin as soon as another one ends."""
        return bool(self._waiting)

    def get(self, job_id: str, lease: int) -> Execution | None:
        """Return the execution of a job under a lease."""
        return self._all.get((job_id, lease))

    # How many to claim

    def wanted(self) -> int:
        """Return how many jobs to claim now."""
        slots = self._slots()
        if not slots:
            return 0
        free = slots - self._taken() - len(self._waiting)
        if ahead := self.ahead.count(self._loop.time()):
            # Not for each one that begins.
            free = free + ahead if 2 * len(self._waiting) <= ahead else 0
        # Jobs that wait for others have lent their slots, but are there all the same.
        return max(0, min(free, slots + _MOST_WAITING - len(self._all)))

    # Beginning and ending

    def add(self, execution: Execution) -> None:
        """Begin an execution, or let it wait for a slot."""
        self._all[execution.job_id, execution.lease] = execution
        task = self._loop.create_task(execution.run())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        if self._taken() > self._slots():
            self._waiting[execution] = self._loop.time()
            self._be_patient()
        else:
            execution.begin()

    def ended(self, execution: Execution) -> None:
        """Forget an execution; another one has its slot."""
        self._all.pop((execution.job_id, execution.lease), None)
        self._waiting.pop(execution, None)
        now = self._loop.time()
        if execution.child is not None:
            self.ahead.ended(now)
        self._rest(now, needed=execution.was_not_startable)
        self.fill()

    def fill(self) -> None:
        """Let those begin for which there is a slot now."""
        while self._waiting and self._taken() < self._slots():
            execution = next(iter(self._waiting))
            del self._waiting[execution]
            execution.begin()

    def stop_all(self, reason: Reason, *, force: bool = False) -> None:
        """Stop every execution."""
        for execution in list(self._all.values()):
            execution.stop(reason, force=force)

    def stop_waiting(self) -> None:
        """Give back what has not begun."""
        for execution in list(self._waiting):
            del self._waiting[execution]
            execution.stop("drain")

    async def close(self) -> None:
        """Wait for what is still being written down."""
        if self._patience is not None:
            self._patience.cancel()
        for task in list(self._tasks):
            await asyncio.wait({task}, timeout=10)

    def _be_patient(self) -> None:
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._end_patience)

    def _end_patience(self) -> None:
        self._patience = None
        limit = self._loop.time() - PATIENCE_SECONDS / 2
        late = [execution for execution, since in self._waiting.items() if since < limit]
        for execution in late:
            del self._waiting[execution]
            execution.stop("busy")
        if late:
            self.ahead.was_wrong()
        if self._waiting:
            self._be_patient()

    def _rest(self, now: float, *, needed: bool) -> None:
        """Leave jobs to others for a while when none can be started here."""
        if not needed:
            self._rest_seconds = 0.0
        elif now >= self.rest_until:  # those that were claimed together fail together
            self._rest_seconds = min(max(1.0, self._rest_seconds * 2), _LONGEST_REST_SECONDS)
            self.rest_until = now + self._rest_seconds
            log.error("cannot start programs: no new jobs for %g s", self._rest_seconds)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours: the guardian and the lease end the job, and nobody hears of it
            # unless we stop here.
            log.critical("an execution failed inside the runner", exc_info=error)
            self._on_fault()
