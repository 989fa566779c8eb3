"""Renewing the leases of what runs, and hearing what is to become of it."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from persona_pg.runner import calls, procfs
from persona_pg.runner.logs import about
from persona_pg.runner.outbox import storable
from persona_pg.runner.session import StepError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.exchange import Due
    from persona_pg.runner.execution import Execution
    from persona_pg.runner.process import Child, Processes, Usage
    from persona_pg.runner.roster import Roster
    from persona_pg.runner.session import Answer

log = logging.getLogger("persona.runner")

# What a job says of itself is told within so long.
_SOON_SECONDS = 1.0
# A pid is worth a heartbeat of its own once the job has lasted so long: most have ended by then.
_PID_REPORT_SECONDS = 1.0


class Heartbeats:
    """One statement for all executions, and when the next one is due."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        processes: Processes,
        *,
        kick: Callable[[], None],
        on_late: Callable[[], None],
    ) -> None:
        """*on_late*: nobody had heard of us for longer than a lease."""
        self.next_at = 0.0
        self._loop = loop
        self._roster = roster
        self._processes = processes
        self._kick = kick
        self._on_late = on_late
        self._sent_at = procfs.boottime()
        # Since when they run, without that their pids were told.
        self._untold: dict[Execution, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def at_once(self) -> None:
        """Send one with the next exchange."""
        self.next_at = 0.0
        self._kick()

    def soon(self) -> None:
        """Send one in a moment: there is something to tell."""
        at = self._loop.time() + _SOON_SECONDS
        if at < self.next_at:
            self.next_at = at
            self._kick()

    def started(self, execution: Execution) -> None:
        """Tell its pid with the next one, which comes early if it lasts."""
        self._untold[execution] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(_PID_REPORT_SECONDS, self._look)

    def ended(self, execution: Execution) -> None:
        """Note that its pid is of no interest any more."""
        self._untold.pop(execution, None)

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        for since in self._untold.values():
            left = since + _PID_REPORT_SECONDS - self._loop.time()
            if left <= 0:
                self.at_once()
            else:
                self._timer = self._loop.call_later(left, self._look)
            return  # it is the one that has lasted longest

    def due(self, runner_id: str, *, interval: float, lease: float, sent_at: float) -> Due:
        """Return the heartbeat to send now."""
        # No rarer than the leases we have been given allow, whatever was configured since.
        spread = random.uniform(0.9, 1)  # noqa: S311 - spreads load
        self.next_at = self._loop.time() + min(interval, lease / 3) * spread
        self._untold.clear()
        beats = [calls.heartbeats(runner_id, self._beats())]
        return beats, lambda answers: self._answered(answers[0], sent_at, lease)

    def _beats(self) -> list[dict[str, Any]]:
        usage: dict[Child, Usage] = {}
        if len(self._roster):
            try:
                usage = self._processes.usage()
            except OSError as exc:
                # A heartbeat says that we are alive: it does not depend on what it costs.
                log.warning("cannot look at the processes: %s", exc)
        return [_beat(e, usage.get(e.child) if e.child else None) for e in self._roster]

    def _answered(self, answer: Answer, sent_at: float, lease: float) -> None:
        if isinstance(answer, StepError):
            answer.complain("heartbeat")
            self.next_at = min(self.next_at, self._loop.time() + 1)
            return
        # Stopped, or asleep with the machine, for so long that our idle mark may not have counted
        # for a while: the server heard of us before this answer, and writes that down only where
        # what it has is older than a tenth of the lease, or a second.
        if procfs.boottime() - self._sent_at > lease - min(1.0, lease / 10):
            self._on_late()
        self._sent_at = sent_at
        for beat in answer or ():
            execution = self._roster.get(beat["job_id"], beat["lease"])
            if execution is None:
                continue
            if beat["directive"] == "lost":
                log.warning(
                    "job %s: the lease is lost, killing it", execution.job["short_id"],
                    extra=about(execution.job),
                )  # fmt: skip
                execution.stop("lost")
                continue
            execution.renewed(sent_at)
            execution.is_argv_told = execution.is_argv_sent
            if beat["directive"] == "cancel":
                execution.stop("cancel", force=bool(beat["force"]), detail=beat["reason"])


def _beat(execution: Execution, usage: Usage | None) -> dict[str, Any]:
    beat: dict[str, Any] = {"job_id": execution.job_id, "lease": execution.lease}
    child = execution.child
    if child is not None and child.exit is None:
        beat["pid"] = child.pid
        beat["pid_started"] = str(child.start_time)
        beat["token"] = execution.token
        if not execution.is_argv_told:
            beat["argv"] = storable(execution.argv)
            execution.is_argv_sent = True
    if execution.progress is not None:
        beat["progress"], text = execution.progress
        beat["progress_text"] = None if text is None else storable(text)
    if usage is not None:
        now = procfs.boottime()
        if execution.cpu_seen is not None and now > execution.cpu_seen[0]:
            spent = usage.cpu_seconds - execution.cpu_seen[1]
            percent = max(0.0, spent) / (now - execution.cpu_seen[0]) * 100
            beat["cpu_percent"] = round(percent, 1)
        execution.cpu_seen = now, usage.cpu_seconds
        beat["memory_mb"] = round(usage.memory_bytes / (1 << 20), 1)
    return beat
