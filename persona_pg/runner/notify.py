"""Telling systemd (or whoever set NOTIFY_SOCKET) how we are: see sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICROSECONDS = 1_000_000


class Notifier:
    """Sends notifications; without NOTIFY_SOCKET it does nothing.

    systemd takes the guardian for the main process, so a unit needs `NotifyAccess=all`.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with an @ where its name has a NUL.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path.startswith(("/", "@")):
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)
            )
            self._socket.setblocking(False)

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def send(self, *lines: str) -> None:
        """Send one notification.  A listener that is full or gone is no fault of ours."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def ready(self, status: str = "") -> None:
        """Say that start-up, or a reload, is complete."""
        self.send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """Say in a few words what goes on."""
        self.send(*_status(text))

    def watchdog(self) -> None:
        """Say that the working loop works."""
        self.send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        """Say that we are about to end."""
        self.send("STOPPING=1", *_status(status))

    def extend_timeout(self, seconds: float) -> None:
        """Ask for so much more time, from now."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends that."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.splitlines())}",) if text else ()


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how often, in seconds, `watchdog` must be called at least; None: nobody asks.

    The variable may name our guardian: systemd knows only the process it has started.
    """
    try:
        interval = int(environ.get("WATCHDOG_USEC", "0")) / _MICROSECONDS
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return interval if interval > 0 and pid in (os.getpid(), os.getppid()) else None
