"""The runner's descriptors: none reaches a job, and there are always some left to look after it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

from persona_pg.runner import procfs

_FIRST_OWN_DESCRIPTOR = 3
_SECONDS_BETWEEN_SEALS = 1.0
# Two pipes, a pidfd and a socket; and what the runner has open itself, or opens for a look.
_DESCRIPTORS_OF_A_JOB = 4
_DESCRIPTORS_KEPT = 40


class DescriptorSeal:
    """Keeps our descriptors out of children, also those that we were started with ourselves.

    Python opens everything close-on-exec; what is left is what a parent or a C library made,
    so looking at intervals is enough.
    """

    def __init__(self) -> None:
        self._next = 0.0
        for fd in range(_FIRST_OWN_DESCRIPTOR):
            try:
                os.fstat(fd)
            except OSError:
                # A pipe that got number 0 to 2 would be overwritten while a child is set up.
                os.open(os.devnull, os.O_RDWR)

    def apply(self) -> None:
        """Mark what is open as not inheritable, at most once a second."""
        now = procfs.boottime()
        if now < self._next:
            return
        self._next = now + _SECONDS_BETWEEN_SEALS
        for name in os.listdir("/dev/fd"):  # noqa: PTH208 a hot path
            fd = int(name)
            if fd >= _FIRST_OWN_DESCRIPTOR:
                with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                    os.set_inheritable(fd, False)


def check_room(jobs: int) -> None:
    """Raise OSError where so many jobs would leave us without descriptors to look after them."""
    wanted = jobs * _DESCRIPTORS_OF_A_JOB + _DESCRIPTORS_KEPT
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and wanted > soft:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
