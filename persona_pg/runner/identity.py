"""A process that another one can be certain about, perhaps after a reboot, perhaps elsewhere."""

from __future__ import annotations

import functools
import os
import sys

from persona_pg.runner import procfs

if sys.platform == "darwin":
    from persona_pg.runner import _darwin


class Host:
    """Where pids mean something: this machine, since this boot, in this pid namespace."""

    __slots__ = ("boot_id", "machine_id", "pid_namespace")

    def __init__(self, machine_id: str, boot_id: str, pid_namespace: str) -> None:
        self.machine_id = machine_id
        self.boot_id = boot_id
        self.pid_namespace = pid_namespace

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self.as_tuple() == other.as_tuple()

    def __hash__(self) -> int:
        return hash(self.as_tuple())

    def as_tuple(self) -> tuple[str, str, str]:
        """All three, for comparing."""
        return (self.machine_id, self.boot_id, self.pid_namespace)


class ProcessIdentity:
    """A process that another process, perhaps after a reboot, can be certain about."""

    __slots__ = ("host", "pid", "start_time", "token")

    def __init__(
        self, host: Host, pid: int, start_time: int | None, token: int | None = None
    ) -> None:
        self.host = host
        self.pid = pid
        self.start_time = start_time
        self.token = token

    def is_alive(self) -> bool:
        """Say whether exactly this process lives here.  Not known to be ours means no."""
        if self.start_time is None or self.host != host() or not all(self.host.as_tuple()):
            return False
        process = procfs.read_process(self.pid)
        if process is None or not process.is_alive or process.start_time != self.start_time:
            return False
        return self.token is None or procfs.read_token(self.pid) == self.token

    def as_dict(self) -> dict[str, str | int | None]:
        """Return plain values, for JSON."""
        return {
            "machine_id": self.host.machine_id,
            "boot_id": self.host.boot_id,
            "pid_namespace": self.host.pid_namespace,
            "pid": self.pid,
            "start_time": self.start_time,
            "token": self.token,
        }

    @classmethod
    def from_dict(cls, values: dict[str, str | int | None]) -> ProcessIdentity:
        """Undo `as_dict`; what is missing makes an identity that is never alive."""

        def number(name: str) -> int | None:
            value = values.get(name)
            return value if isinstance(value, int) else None

        machine, boot, namespace = (
            str(values.get(name) or "") for name in ("machine_id", "boot_id", "pid_namespace")
        )
        return cls(
            Host(machine, boot, namespace),
            number("pid") or 0,
            number("start_time"),
            number("token"),
        )


@functools.cache
def host() -> Host:
    """Return this machine, boot and pid namespace; an unknown part is empty, and proves nothing."""
    if sys.platform == "darwin":
        return Host(_darwin.machine_id(), _darwin.boot_id(), "macos")
    machine_id = _first_line("/etc/machine-id") or _first_line("/var/lib/dbus/machine-id")
    try:
        pid_namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 pathlib is big
    except OSError:
        pid_namespace = ""
    return Host(machine_id, _first_line("/proc/sys/kernel/random/boot_id"), pid_namespace)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 pathlib is big
            return file.readline().strip()
    except OSError:
        return ""
