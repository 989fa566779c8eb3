"""What a job may use of its machine, and what is done about one that uses more.

Descriptors, file size and niceness are set before the program begins, and the kernel keeps them.
Processors are a set that the program may not leave. Memory and the number of processes are those of
the whole tree, which no limit of a single process can bound (RLIMIT_AS and RLIMIT_DATA stop node,
which reserves far more than it uses; RLIMIT_NPROC counts the user, not the job): they are watched,
and a job that is over is killed and its failure says why.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import resource
import shutil
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona_pg.runner import procfs
from persona_pg.runner.process import Usage
from persona_pg.settings import format_size

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from persona_pg.runner.execution import Execution
    from persona_pg.runner.process import Child, Exit, Processes
    from persona_pg.runner.roster import Roster

log = logging.getLogger("persona.runner")

_LOOK_SECONDS = 0.25
# A look that took t is followed by none for 9 t, a tenth of the time at most; but it is the job
# that multiplies without end which makes looking slow.
_PAUSE_PER_COST = 9.0
_LONGEST_PAUSE_SECONDS = 1.0
# What `ulimit -f` of every sh counts in.
_BLOCK = 512
_SIGNAL_CODES = 128
_next_processor = itertools.count()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one job; None: as the runner itself."""

    memory: int | None = None
    cpu: float | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    nice: int | None = None
    launcher: Sequence[str] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Put together what sets them."""
        object.__setattr__(self, "launcher", self._launcher())

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Limits:
        """Read those of a claimed job; a kind that only a newer server knows is passed over."""
        given = job.get("resource_limits") or {}
        known = {item for item in cls.__dataclass_fields__ if item != "launcher"}
        return cls(**{name: value for name, value in given.items() if name in known})

    @property
    def is_watched(self) -> bool:
        """Tell whether somebody has to look at the job again and again."""
        return self.memory is not None or self.processes is not None

    def _launcher(self) -> Sequence[str]:
        """Return what is put before the command line, so that nothing of it runs without limits."""
        steps = []
        if self.open_files is not None:
            steps.append(f"ulimit -n {_within(resource.RLIMIT_NOFILE, self.open_files)}")
        if self.file_size is not None:
            size = _within(resource.RLIMIT_FSIZE, self.file_size)
            steps.append(f"ulimit -f {max(1, size // _BLOCK)}")
        nice = shutil.which("nice", path=os.defpath) if self.nice else None
        if not steps and nice is None:
            return ()
        steps.append('exec "$@"' if nice is None else f'exec {nice} -n {self.nice} "$@"')
        return ("/bin/sh", "-c", " && ".join(steps), "sh")

    def processors(self) -> frozenset[int] | None:
        """Choose the processors for a job, others for the next one; None: it may use all."""
        if self.cpu is None or sys.platform != "linux":
            return None
        ours = sorted(os.sched_getaffinity(0))
        wanted = math.ceil(self.cpu)
        if wanted >= len(ours):
            return None
        return frozenset(ours[next(_next_processor) % len(ours)] for _ in range(wanted))

    def exceeded(self, usage: Usage) -> str | None:
        """Say which limit of the whole tree is exceeded: many processes also need much memory."""
        if self.has_too_many(usage):
            return f"too many processes (limit {self.processes})"
        if self.memory is not None and usage.memory_bytes > self.memory:
            return f"out of memory (limit {_size(self.memory)})"
        return None

    def has_too_many(self, usage: Usage) -> bool:
        """Tell whether there are too many processes, whatever they share."""
        return self.processes is not None and usage.processes > self.processes

    def named_by(self, exit_: Exit) -> str | None:
        """Say which limit the kernel has ended the program for, if it can be seen."""
        by_signal = signal.SIGXFSZ in (exit_.signal, exit_.code - _SIGNAL_CODES)
        if self.file_size is not None and by_signal:
            return f"file too large (limit {_size(self.file_size)})"
        return None


class LimitWatch:
    """Looks at the jobs with limits while there are any, all of them at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        processes: Processes,
    ) -> None:
        self._loop = loop
        self._roster = roster
        self._processes = processes
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, delay: float = _LOOK_SECONDS) -> None:
        """Go on looking if there is anybody to look at."""
        if self._timer is None and self._watched():
            self._timer = self._loop.call_later(delay, self._look)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _watched(self) -> list[Execution]:
        return [e for e in self._roster if e.limits.is_watched and not e.has_exceeded]

    def _look(self) -> None:
        self._timer = None
        began = self._loop.time()
        try:
            usage = self._processes.usage()
            for execution in self._watched():
                child = execution.child
                if child is None or (used := usage.get(child)) is None:
                    continue
                limits = execution.limits
                words = limits.exceeded(used)
                # Twice: while a tree is looked at some of it end, and leave their part to others.
                for _ in range(2):
                    if words is not None and not limits.has_too_many(used):
                        used = self._exactly(child)
                        words = limits.exceeded(used)
                if words is not None:
                    execution.exceed(words, used)
        except OSError as exc:
            log.warning("cannot look at what the jobs use: %s", exc)
        pause = _PAUSE_PER_COST * (self._loop.time() - began)
        self.arm(min(max(_LOOK_SECONDS, pause), _LONGEST_PAUSE_SECONDS))

    def _exactly(self, child: Child) -> Usage:
        """Count once what several processes share: each shows all that it was forked with."""
        members = self._processes.members(child)
        memory = sum(procfs.proportional_memory(process.pid) for process in members)
        return Usage(sum(process.cpu_seconds for process in members), memory, len(members))


def _within(number: int, value: int) -> int:
    """Return the limit, or the runner's own one where that is lower and cannot be raised."""
    hard = resource.getrlimit(number)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _size(value: int) -> str:
    return re.sub(r"(?<=\d)(?=[A-Za-z])", " ", format_size(value))
