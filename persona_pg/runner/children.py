"""Our own children: who they are, whether they have ended, and reaping them."""

from __future__ import annotations

import os
import sys

from persona_pg.runner import procfs

if sys.platform == "darwin":
    from persona_pg.runner import _darwin


def has_exited(pid: int) -> bool:
    """Say whether our child has ended, without reaping: its pid and group id stay ours."""
    if sys.platform == "darwin":
        return _darwin.has_exited(pid)
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def reap(pid: int) -> int | None:
    """Reap our child: its exit code, or minus the signal that ended it.  None: it lives."""
    reaped, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if reaped else None


class OwnChildren:
    """The pids of our children, cheaply: one read, where the kernel offers the list.

    The list is exact for us: a child leaves it only when it is reaped, and nobody but the
    thread that reads reaps.  Without it (CONFIG_PROC_CHILDREN) the whole of /proc is walked.
    """

    def __init__(self, *, walk: bool = False) -> None:
        self._fd = -1
        if procfs.LINUX and not walk:
            try:
                self._fd = os.open(
                    f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC
                )
            except OSError:
                self._fd = -1

    @property
    def is_cheap(self) -> bool:
        """Whether reading costs microseconds."""
        return self._fd >= 0

    def read(self) -> list[int]:
        """Return the pids of all our children, zombies too."""
        if self._fd < 0:
            me = os.getpid()
            return [process.pid for process in procfs.snapshot().values() if process.ppid == me]
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = b""
        while chunk := os.read(self._fd, 65536):
            text += chunk
        return [int(pid) for pid in text.split()]

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
