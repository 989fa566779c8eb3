"""A timer on the clock that counts sleep: it fires at once when the machine wakes up too late."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from persona_pg.runner import procfs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# Where the kernel has no such timer, a sleep is noticed by looking so often.
_LONGEST_WAIT = 10.0
_CLOCK_BOOTTIME = 7
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class BootTimer:
    """Calls back once after a moment of `procfs.boottime`; to be armed again each time.

    The loop's own timers stand still while the machine sleeps: after an hour with the lid closed
    they would fire with the rest of their time to go, and what had to be over by then ran on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None
        self._fd = _create()
        if self._fd >= 0:
            loop.add_reader(self._fd, self._fired)

    def arm(self, at: float | None) -> None:
        """Call back at *at*, which may be past, instead of when it was armed for; None: never."""
        if self._fd >= 0:
            _set(self._fd, at)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            wait = min(max(0.0, at - procfs.boottime()), _LONGEST_WAIT)
            self._timer = self._loop.call_later(wait, self._callback)

    def close(self) -> None:
        """Give the descriptor back."""
        self.arm(None)
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fired(self) -> None:
        with contextlib.suppress(BlockingIOError):  # armed anew since
            os.read(self._fd, 8)
            self._callback()


def _create() -> int:
    """Return the descriptor of a timer; -1 where there is none (os has it from Python 3.13 on)."""
    if sys.platform != "linux":
        return -1
    try:
        fd = procfs.libc().timerfd_create(_CLOCK_BOOTTIME, _TFD_NONBLOCK_CLOEXEC)
    except AttributeError:
        return -1
    return int(fd)


def _set(fd: int, at: float | None) -> None:
    import ctypes

    # it_interval and it_value, each seconds and nanoseconds; all zero disarms, so no time is zero.
    # A span and no point of time: whatever clock our process is shown, the kernel has its own.
    seconds = 0.0 if at is None else max(at - procfs.boottime(), 1e-6)
    whole = int(seconds)
    spec = (ctypes.c_long * 4)(0, 0, whole, int((seconds - whole) * 1e9))
    if procfs.libc().timerfd_settime(fd, 0, ctypes.byref(spec), None) != 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
