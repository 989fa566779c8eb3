"""Following jobs to their end: the log, what they wait for, the exit code that stands for it."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Self

from persona_pg.cli.edge import INTERRUPTED, say
from persona_pg.errors import PersonaError
from persona_pg.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from uuid import UUID

    from persona_pg.model import Job, LogLine
    from persona_pg.queue import Queue

TIMED_OUT = 124
_FAILED = 1
_SIGNAL_BASE = 128
_PAGE = 1000
_PATIENT_INTERRUPTS = 2
# A job usually starts at once; only one that does not deserves a word.
_WAITING_IS_TOLD_AFTER = 1.0
_WAITING_IS_LOOKED_AT_EVERY = 5.0


def exit_code_of(job: Job) -> int:
    """Return the exit code that stands for a finished job."""
    if job.status == "completed":
        return job.exit_code or 0
    if job.status == "cancelled":
        return INTERRUPTED
    if job.failure_kind in {"timeout", "idle_timeout"}:
        return TIMED_OUT
    if not job.exit_code:
        return _FAILED
    return job.exit_code if job.exit_code > 0 else _SIGNAL_BASE - job.exit_code


class Interrupts:
    """Counts Ctrl-C instead of raising KeyboardInterrupt in the middle of a call.

    Whoever presses it a third time wants to leave, whatever is under way.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reader, self._writer = os.pipe()
        self._before: Any = None

    def __enter__(self) -> Self:
        os.set_blocking(self._writer, False)
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        os.close(self._reader)
        os.close(self._writer)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1
        os.write(self._writer, b"!")
        if self.count > _PATIENT_INTERRUPTS:
            raise KeyboardInterrupt

    @property
    def readers(self) -> list[int]:
        """What can be read once Ctrl-C was pressed."""
        return [self._reader]

    def heed(self) -> None:
        """Take in what was pressed: the next wait ends with the next Ctrl-C only."""
        if select.select(self.readers, [], [], 0)[0]:
            os.read(self._reader, 64)


class Follower:
    """Prints the log of one job as it comes, until the job has ended."""

    def __init__(
        self,
        queue: Queue,
        job_id: UUID,
        *,
        show: Callable[[LogLine], None],
        interrupts: Interrupts | None = None,
    ) -> None:
        self._queue = queue
        self._id = job_id
        self._show = show
        self._interrupts = interrupts
        self._cursor = (0, 0)
        self._waiting = WaitingNote(queue)
        self._attempt = 0

    def start_after(self, line: LogLine) -> None:
        """Leave out everything up to this line."""
        self._cursor = (line.lease, line.seq)

    def follow(self, between: Callable[[], None] | None = None) -> Job:
        """Print until the job has ended; *between* is called at each turn."""
        with Watch(self._queue.database, [self._id], logs=True) as watch:
            while True:
                if between is not None:
                    between()
                # The job first, then its log: an ended job's log is complete.
                job = self._queue.get_job(self._id)
                if self._print_new() or job.attempt != self._attempt:
                    self._attempt = job.attempt
                    watch.hurry()
                if job.is_finished:
                    return job
                self._waiting.look_at(job)
                self._wait(watch)

    def _wait(self, watch: Watch) -> None:
        wake = () if self._interrupts is None else self._interrupts.readers
        watch.wait(self._waiting.due_in(), wake)
        if self._interrupts is not None:
            self._interrupts.heed()

    def _print_new(self) -> bool:
        found = False
        while True:
            lease, seq = self._cursor
            page = self._queue.get_logs(self._id, after_lease=lease, after_seq=seq, max_lines=_PAGE)
            for line in page:
                self._show(line)
                self._cursor = (line.lease, line.seq)
            found = found or bool(page)
            if len(page) < _PAGE:
                return found


class WaitingNote:
    """Says on stderr why a job does not start, once for each reason."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._since: float | None = None
        self._looked_at = float("-inf")
        self._told: str | None = None

    def look_at(self, job: Job) -> None:
        """Tell the reason where a job has been waiting for a while and it is a new one."""
        now = time.monotonic()
        if job.status == "running":
            self._since = None
            return
        if self._since is None:
            self._since = now
        early = now - self._since < _WAITING_IS_TOLD_AFTER
        if early or now - self._looked_at < _WAITING_IS_LOOKED_AT_EVERY:
            return
        self._looked_at = now
        reason = self._reason(job)
        if reason != self._told:
            self._told = reason
            say(f"job {job.short_id} is waiting: {reason}")

    def due_in(self) -> float | None:
        """Return the seconds until the next look_at() may have something to tell."""
        if self._since is None:
            return None
        due = max(
            self._since + _WAITING_IS_TOLD_AFTER, self._looked_at + _WAITING_IS_LOOKED_AT_EVERY
        )
        return max(0.0, due - time.monotonic()) + 0.001

    def _reason(self, job: Job) -> str:
        if job.status == "pending" and (missing := missing_runner(self._queue, job.agent)):
            return missing
        return self._queue.explain_job(job.id)


def missing_runner(queue: Queue, agent: str) -> str | None:
    """Say that nobody is there to run an agent's jobs; None where somebody is."""
    if queue.get_agent(agent).is_external:
        return None
    live = [runner for runner in queue.runners() if runner.is_live]
    if any(runner.serves(agent) for runner in live):
        return None
    if live:
        return (
            f"no live runner serves agent {agent!r}; start one with: persona-worker --agent {agent}"
        )
    return "no live runner; start one with: persona-worker"


def cancel_quietly(queue: Queue, job_id: UUID, reason: str, *, force: bool) -> None:
    """Ask for a job's end; that it has ended already is as good."""
    try:
        queue.cancel_job(job_id, reason, force=force)
    except PersonaError as exc:
        if exc.exit_code != 4:  # illegal now: it has ended
            raise


def outcome(job: Job) -> str:
    """Say in a line how a job ended."""
    from persona_pg.cli.output import duration

    words = f"job {job.short_id} {job.status}"
    if job.status != "completed":
        why = job.error or job.status_reason or job.failure_kind
        words += f": {why}" if why else ""
    if job.started_at is not None and job.completed_at is not None:
        words += f" (after {duration(job.completed_at - job.started_at)})"
    return words
