"""The same facts on macOS, best effort: no pidfd, no subreaper, no token.

Imported only there.  psutil is loaded late, so that the guardian pays for it only when it looks.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_pg.runner.procfs import Process


def _sysctl(name: str) -> str:
    libc = ctypes.CDLL(None)
    size = ctypes.c_size_t(256)
    buffer = ctypes.create_string_buffer(size.value)
    if libc.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, 0) != 0:
        return ""
    return buffer.value.decode("ascii", "replace")


def machine_id() -> str:
    """Return the hardware's UUID."""
    libc = ctypes.CDLL(None)
    raw = (ctypes.c_ubyte * 16)()
    wait = (ctypes.c_long * 2)(1, 0)
    return bytes(raw).hex() if libc.gethostuuid(raw, wait) == 0 else ""


def boot_id() -> str:
    """Return the UUID of this boot."""
    return _sysctl("kern.bootsessionuuid")


def read_process(pid: int) -> Process | None:
    """Return one process as it is now."""
    import psutil

    try:
        return _row(psutil.Process(pid))
    except (psutil.Error, OSError):
        return None


def snapshot() -> dict[int, Process]:
    """Return every process that this user can see."""
    import psutil

    processes = {}
    for pid in psutil.pids():
        process = read_process(pid)
        if process is not None:
            processes[pid] = process
    return processes


def _row(process: Any) -> Process:
    import psutil

    from persona_pg.runner.procfs import Process

    with process.oneshot():
        letters = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_STOPPED: "T"}
        state = letters.get(process.status(), "S")
        cpu, memory = 0.0, 0
        if state != "Z":
            try:
                times = process.cpu_times()
                cpu, memory = times.user + times.system, process.memory_info().rss
            except psutil.AccessDenied:
                pass  # another user's process: its place in the tree is all we need
        return Process(
            process.pid,
            state,
            process.ppid(),
            os.getpgid(process.pid),
            os.getsid(process.pid),
            cpu,
            int(process.create_time() * 1_000_000),
            memory,
        )


def has_exited(pid: int) -> bool:
    """Say whether our child is a zombie: there is no way to ask without reaping."""
    process = read_process(pid)
    return process is None or not process.is_alive


def has_mark(pid: int, mark: str) -> bool:
    """Say whether PERSONA_JOB_ID stands in its environment, where that may be read."""
    import psutil

    try:
        found = psutil.Process(pid).environ().get("PERSONA_JOB_ID")
    except (psutil.Error, OSError):
        return False
    return found is not None and mark in (found, "")


def signal_process(pid: int, started: int, number: int) -> bool:
    """Signal the process after checking its start time; a small race remains here."""
    process = read_process(pid)
    if pid <= 1 or process is None or process.start_time != started:
        return False
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
