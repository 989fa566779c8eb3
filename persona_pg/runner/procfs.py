"""Facts about processes, read from the kernel, and signals that cannot miss.

A process is known by its pid *and* its start time; a job's process also by its token, a number
in its soft RLIMIT_LOCKS.  That limit does nothing on Linux, is inherited by everything a
process starts, and survives `setsid`, double forks and a cleared environment.

Only cheap modules of the standard library are imported: the guardian lives on this module.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

if sys.platform == "darwin":
    from persona_pg.runner import _darwin

LINUX = sys.platform == "linux"

# The number of RLIMIT_LOCKS on every Linux architecture; Python's resource module lacks the name.
RLIMIT_LOCKS = 10

# A token is 2**60 + 28 bits of the runner's instance + 32 bits of the job: far above any limit
# a person would set, and below the kernel's infinity.
TOKEN_FLAG = 1 << 60
INSTANCE_BITS = 28
JOB_BITS = 32

ANY_MARK = ""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

# CLOCK_MONOTONIC stops while a Linux machine sleeps; on macOS it does not.
_CLOCK = time.CLOCK_BOOTTIME if LINUX else time.CLOCK_MONOTONIC

# Of the flags of a process, include/linux/sched.h.
_PF_EXITING = 0x4

_MISSING = (errno.ENOENT, errno.ESRCH)
_STAT_BUFFER = 2048


class Process:
    """One row of a snapshot: what /proc/PID/stat said."""

    __slots__ = (
        "cpu_seconds", "is_exiting", "pgid", "pid", "ppid", "rss", "session", "start_time", "state",
        "threads",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 the order of the file's fields
        self,
        pid: int,
        state: str,
        ppid: int,
        pgid: int,
        session: int,
        cpu_seconds: float,
        start_time: int,
        rss: int,
        *,
        threads: int = 1,
        is_exiting: bool = False,
    ) -> None:
        self.pid = pid
        self.state = state
        self.ppid = ppid
        self.pgid = pgid
        self.session = session
        self.cpu_seconds = cpu_seconds
        self.start_time = start_time
        self.rss = rss
        self.threads = threads
        self.is_exiting = is_exiting

    @property
    def is_alive(self) -> bool:
        """Neither a zombie nor dead: it can still do something.

        One whose first thread has ended while others go on looks like a zombie.
        """
        return self.state not in "ZXx" or self.threads > 1

    @property
    def stands_still(self) -> bool:
        """Say whether what was sent SIGSTOP has taken it in, with all of its threads.

        Until then it may be in the middle of a fork, which only a deadly signal breaks off (Linux
        4.20 and later).  Who waits without being interruptible counts as still: it may do so for
        hours, and a fork waits like that for moments.
        """
        if self.is_exiting or not self.is_alive:
            return True
        if self.threads == 1:
            return self.state in "TtD"
        return all(state in "TtDZX" for state in _thread_states(self.pid))

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.state} parent={self.ppid} group={self.pgid}>"


def boottime() -> float:
    """Seconds on a clock that also counts while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def _read_small(path: str, size: int = _STAT_BUFFER) -> bytes | None:
    """Read the beginning of a /proc file; None: gone, or not for us.

    Running out of descriptors or memory is an error: a process not seen is no process gone.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _MISSING or error.errno in (errno.EACCES, errno.EPERM):
            return None
        raise
    try:
        return os.read(fd, size)
    except OSError as error:
        if error.errno in _MISSING or error.errno in (errno.EACCES, errno.EPERM):
            return None
        raise
    finally:
        os.close(fd)


def read_process(pid: int) -> Process | None:
    """Return one process as it is now; None if there is none."""
    if sys.platform == "darwin":
        return _darwin.read_process(pid)
    fields = _read_stat(f"/proc/{pid}/stat")
    if not fields:
        return None
    return Process(
        pid,
        fields[0].decode("ascii"),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        # Its own time and that of the children it has waited for.
        sum(map(int, fields[11:15])) / TICKS_PER_SECOND,
        int(fields[19]),
        int(fields[21]) * PAGE_SIZE,
        threads=int(fields[17]),
        is_exiting=bool(int(fields[6]) & _PF_EXITING),
    )


def _read_stat(path: str) -> list[bytes]:
    """Return the fields behind the name, from the state on; none if there is no such process."""
    stat = _read_small(path)
    # The name stands in parentheses and may itself contain spaces and parentheses.
    return stat[stat.rindex(b")") + 2 :].split() if stat else []


def _thread_states(pid: int) -> Iterator[str]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 pathlib is big
    except OSError as error:
        if error.errno in _MISSING:
            return
        raise
    for thread in threads:
        fields = _read_stat(f"/proc/{pid}/task/{thread}/stat")
        if fields:
            yield fields[0].decode("ascii")


def proportional_memory(pid: int) -> int:
    """Return the memory of a process with its part of what it shares; all of that if unknown."""
    text = _read_small(f"/proc/{pid}/smaps_rollup", 4096) if sys.platform == "linux" else None
    for line in (text or b"").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    process = read_process(pid)  # which has ended meanwhile, or is not for us to look into
    return 0 if process is None else process.rss


def snapshot(settled: dict[int, Process] | None = None) -> dict[int, Process]:
    """Return every process that this user can see.  Not atomic: see `tree` for what follows.

    Those that are *settled* are taken as they were, if they still exist.
    """
    if sys.platform == "darwin":
        return _darwin.snapshot()
    known = settled or {}
    processes = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 pathlib is big
        if name.isdigit():
            pid = int(name)
            process = known.get(pid) or read_process(pid)
            if process is not None:
                processes[pid] = process
    return processes


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if there is none."""
    process = read_process(pid)
    return None if process is None else process.start_time


def new_instance() -> int:
    """Make the number that all tokens of one runner start share."""
    return int.from_bytes(os.urandom(4)) >> (32 - INSTANCE_BITS) or 1


def new_token(instance: int) -> int:
    """Make the token of one job."""
    return TOKEN_FLAG | instance << JOB_BITS | int.from_bytes(os.urandom(JOB_BITS // 8))


def instance_of(token: int | None) -> int | None:
    """Return the runner instance that made this token; None: it is none of ours."""
    if token is None or token >> INSTANCE_BITS + JOB_BITS != 1:
        return None
    return token >> JOB_BITS & (1 << INSTANCE_BITS) - 1


def read_token(pid: int) -> int | None:
    """Return the soft RLIMIT_LOCKS of a process; None: infinite, gone, or none of ours to read."""
    if sys.platform != "linux":
        return None
    try:
        value = resource.prlimit(pid, RLIMIT_LOCKS)[0]
    except ProcessLookupError:
        return None
    except PermissionError:
        return _read_token_from_limits(pid)
    return None if value == resource.RLIM_INFINITY else value


def _read_token_from_limits(pid: int) -> int | None:
    """Read it from the file: everyone may, where prlimit asks for equal user ids."""
    for line in (_read_small(f"/proc/{pid}/limits", 4096) or b"").splitlines():
        if line.startswith(b"Max file locks"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def has_mark(pid: int, mark: str) -> bool:
    """Say whether PERSONA_JOB_ID stands in the environment the process was started with.

    ANY_MARK asks for the id of any job.
    """
    if sys.platform == "darwin":
        return _darwin.has_mark(pid, mark)
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 pathlib is big
            environ = file.read()
    except OSError as error:
        if error.errno in (*_MISSING, errno.EACCES, errno.EPERM):
            return False
        raise
    wanted = f"PERSONA_JOB_ID={mark}".encode()
    if mark == ANY_MARK:
        return any(entry.startswith(wanted) for entry in environ.split(b"\0"))
    return wanted in environ.split(b"\0")


def open_process(pid: int, started: int, token: int | None = None) -> int | None:
    """Open a pidfd on exactly this process; None if the pid belongs to another one by now.

    The checks come after the opening: from then on the descriptor cannot change its meaning.
    """
    if pid <= 1:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    process = read_process(pid)
    if (
        process is None
        or process.start_time != started
        or (token is not None and read_token(pid) != token)
    ):
        os.close(pidfd)
        return None
    return pidfd


def signal_process(pid: int, started: int, number: int, token: int | None = None) -> bool:
    """Signal exactly this process; False: it is gone, or is another one, and nothing was sent."""
    if sys.platform == "darwin":
        return _darwin.signal_process(pid, started, number)
    pidfd = open_process(pid, started, token)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def may_signal(pid: int) -> bool:
    """Say whether this process is one that we could signal: another user's is not."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def become_subreaper() -> bool:
    """Make orphans below us our children, instead of init's.  False where that is unknown."""
    if sys.platform != "linux":
        return False
    set_child_subreaper = 36
    return bool(libc().prctl(set_child_subreaper, 1, 0, 0, 0) == 0)


def become_unreadable() -> bool:
    """Close /proc/PID/environ and memory to other processes of our user, and so to our jobs.

    Passed on to what we fork, not to what we execute. Root reads it all the same.
    """
    if sys.platform != "linux":
        return False
    set_dumpable = 4
    return bool(libc().prctl(set_dumpable, 0, 0, 0, 0) == 0)


@functools.cache
def libc() -> Any:
    """Return the C library: what Python does not offer is called by name."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
