"""The runner's end of the line to its guardian."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pg.runner import procfs, records

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from persona_pg.runner.spawn import Child

# A guardian that takes in nothing while so much waits is as good as dead.
_BACKLOG_BYTES = 1 << 20
# What is no matter of life and death goes out with the next thing that is, or soon.
_LAZY_SECONDS = 0.1


class GuardianLink:
    """Tells the guardian which jobs run and until when; notices when it is gone.

    What a killed runner has sent is still read by its guardian, so nothing is acknowledged.
    """

    def __init__(
        self, link: socket.socket | None, instance: int, delegated: tuple[str, str] = ("", "")
    ) -> None:
        self.instance = instance
        # What `control.delegated_group` has said to the guardian.
        self.delegated = delegated
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self.on_killed: Callable[[int], None] | None = None
        self.helper_pid: int | None = None
        self._link = link
        self._loop: asyncio.AbstractEventLoop | None = None
        self._table: dict[int, tuple[int, int, float]] = {}
        # Their processes are not known to the guardian yet.
        self._started: dict[int, Child] = {}
        self._held: list[int] = []
        self._backlog = bytearray()
        self._is_announcing = False
        self._incoming = b""
        self._is_writing = False
        self._lazy: asyncio.TimerHandle | None = None
        if link is not None:
            link.setblocking(False)

    # -- what the runner says

    def register(self, token: int, deadline: float) -> None:
        """Announce a job; `announce` sends it, which is to be done before the job is started."""
        self._table[token] = (0, 0, deadline)
        self._is_announcing = True
        self._pack(records.REGISTER, 0, 0, token, deadline)
        self._soon()

    def announce(self) -> None:
        """Send what jobs are about to start, if it was not sent yet."""
        if self._is_announcing:
            self._flush()

    def started(self, token: int, child: Child) -> None:
        """Say which process it is: soon, unless it ends at once.  The token alone finds it too."""
        self._started[token] = child
        self._soon()

    def renew(self, token: int, deadline: float) -> None:
        """Move the deadline of one job."""
        self.renew_all({token: deadline})

    def renew_all(self, deadlines: Mapping[int, float]) -> None:
        """Move the deadlines of many jobs, in one message."""
        for token, deadline in deadlines.items():
            if token in self._table:
                pid, started, _ = self._table[token]
                self._table[token] = (pid, started, deadline)
                self._pack(records.RENEW, 0, 0, token, deadline)
        self._flush()

    def release(self, token: int) -> None:
        """Forget a job: nothing of it lives."""
        self._started.pop(token, None)
        if self._table.pop(token, None) is not None:
            self._pack(records.RELEASE, 0, 0, token, 0.0)
            self._soon()

    def hold(self, fd: int) -> None:
        """Let the guardian keep this descriptor open too: a lock is free when both are gone."""
        self._held.append(fd)
        self._send_held(fd)

    def ping(self) -> None:
        """Ask for a sign of life, and notice if nobody is there."""
        self._pack(records.PING, 0, 0, 0, 0.0)
        self._flush()

    # -- the line

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the guardian; the callbacks are called from this loop."""
        self._loop = loop
        if self._link is not None:
            loop.add_reader(self._link.fileno(), self._readable)
        elif self.lost:
            loop.call_soon(self._tell_lost)

    def restart(self) -> int:
        """Start a stand-in, hand everything over to it, and return its pid.

        It is our child, so it adopts nothing: tell `Processes.exempt` about it.
        """
        if self.helper_pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.helper_pid, os.WNOHANG)
        self._disconnect()
        ours, theirs = socket.socketpair()
        package = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.insert(0, {package!r})\n"
            "from persona_pg.runner import guarded\n"
            f"guarded.helper({os.getpid()}, {self.instance}, {self.delegated[0]!r})"
        )
        with theirs:
            self.helper_pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", code],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
                setsigmask=(),
            )
        ours.setblocking(False)
        self._link = ours
        self.lost = False
        for fd in self._held:
            self._send_held(fd)
        for token, (pid, started, deadline) in self._table.items():
            self._pack(records.REGISTER, pid, started, token, deadline)
        self._flush()
        if self._loop is not None:
            self.attach(self._loop)
        return self.helper_pid

    def close(self) -> None:
        """Hang up: for a runner that ends."""
        if self._lazy is not None:
            self._lazy.cancel()
        self._flush()
        self._disconnect()

    def _soon(self) -> None:
        if self._loop is None:
            self._flush_lazy()
        elif self._lazy is None:
            self._lazy = self._loop.call_later(_LAZY_SECONDS, self._flush_lazy)

    def _flush_lazy(self) -> None:
        self._lazy = None
        for token, child in self._started.items():
            if token in self._table:
                deadline = self._table[token][2]
                self._table[token] = (child.pid, child.start_time, deadline)
                self._pack(records.REGISTER, *self._table[token][:2], token, deadline)
        self._started.clear()
        self._flush()

    def _pack(self, kind: int, pid: int, started: int, token: int, deadline: float) -> None:
        if self._link is not None:
            self._backlog += records.RECORD.pack(kind, pid, started, token, deadline)

    def _flush(self) -> None:
        if self._link is None:
            return
        try:
            while self._backlog:
                del self._backlog[: self._link.send(self._backlog)]
            self._is_announcing = False
        except BlockingIOError:
            if len(self._backlog) > _BACKLOG_BYTES:
                self._lose()
            elif self._loop is not None and not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._link.fileno(), self._writable)
        except OSError:
            self._lose()

    def _writable(self) -> None:
        if self._link is not None and self._loop is not None:
            self._loop.remove_writer(self._link.fileno())
            self._is_writing = False
            self._flush()

    def _send_held(self, fd: int) -> None:
        self._flush()
        if self._link is not None:
            record = records.RECORD.pack(records.HOLD, 0, 0, 0, 0.0)
            try:
                socket.send_fds(self._link, [record], [fd])
            except OSError:
                self._lose()

    def _readable(self) -> None:
        if self._link is None:
            return
        try:
            data = self._link.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        data = self._incoming + data
        whole = len(data) - len(data) % records.RECORD.size
        self._incoming = data[whole:]
        for kind, _, _, token, _ in records.RECORD.iter_unpack(data[:whole]):
            if kind == records.KILLED and self.on_killed is not None:
                self.on_killed(token)

    def _lose(self) -> None:
        self._disconnect()
        self.lost = True
        if self._loop is not None:
            self._loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        if self.lost and self.on_lost is not None:
            self.on_lost()

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        self._backlog.clear()
        self._incoming = b""
        self._is_writing = False
        if link is not None:
            if self._loop is not None:
                self._loop.remove_reader(link.fileno())
                self._loop.remove_writer(link.fileno())
            link.close()


def no_guardian() -> GuardianLink:
    """Return a link that leads nowhere: for tests, and where nothing can be forked."""
    return GuardianLink(None, procfs.new_instance())
