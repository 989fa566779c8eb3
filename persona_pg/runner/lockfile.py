"""One runner of a name, and the proof that its predecessor is dead.

The lock belongs to an open file, which the guardian holds too: whoever gets it knows that both
are gone.  What was written there says who they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING

from persona_pg.runner import identity

if TYPE_CHECKING:
    from pathlib import Path

# Of so many runner starts before ours the left-overs may still have to be looked for.
_INSTANCES_AT_MOST = 16
# Written by one call, always as long as before: no reader ever meets a part of it.
_RECORD_BYTES = 1024


class Owner:
    """Who holds, or held, the lock."""

    __slots__ = ("host", "instances", "pid", "started_at")

    def __init__(
        self, host: identity.Host, pid: int, instances: list[int], started_at: float
    ) -> None:
        self.host = host
        self.pid = pid
        # Its own and those of predecessors that it had not yet cleaned up after.
        self.instances = instances
        self.started_at = started_at  # for people only: no decision looks at the wall clock

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        values = {
            "pid": self.pid,
            "machine_id": self.host.machine_id,
            "boot_id": self.host.boot_id,
            "pid_namespace": self.host.pid_namespace,
            "instances": self.instances,
            "started_at": self.started_at,
        }
        return json.dumps(values).encode().ljust(_RECORD_BYTES - 1) + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Owner | None:
        """Undo `to_bytes`; None: it is not known who it was."""
        try:
            values = json.loads(content)
            host = identity.Host(
                str(values["machine_id"]), str(values["boot_id"]), str(values["pid_namespace"])
            )
            instances = [int(instance) for instance in values["instances"]]
            return cls(host, int(values["pid"]), instances, float(values["started_at"]))
        except (ValueError, KeyError, TypeError):
            return None


class HeldBy:
    """The lock is another runner's, which lives."""

    __slots__ = ("owner", "path")

    def __init__(self, path: Path, owner: Owner | None) -> None:
        self.path = path
        self.owner = owner

    def describe(self) -> str:
        """Say it in one sentence."""
        who = "" if self.owner is None else f" (pid {self.owner.pid})"
        return f"a runner named '{self.path.stem}' is already running here{who}"


class Lock:
    """The lock is ours, until we and everybody whom we gave its descriptor are gone."""

    __slots__ = ("_instance", "fd", "path", "previous")

    def __init__(self, path: Path, fd: int, previous: Owner | None, instance: int) -> None:
        self.path = path
        self.fd = fd
        self.previous = previous
        self._instance = instance
        self._write([instance, *self.left_instances])

    @property
    def _previous_is_visible(self) -> bool:
        host = identity.host()
        return self.previous is not None and all(host.as_tuple()) and self.previous.host == host

    @property
    def left_instances(self) -> list[int]:
        """The runner starts whose processes may still live here, for `tree.kill_instances`.

        Of another boot or another pid namespace none could be seen, or could be a stranger's.
        """
        if self.previous is None or not self._previous_is_visible:
            return []
        return self.previous.instances[: _INSTANCES_AT_MOST - 1]

    def settle(self) -> None:
        """Note that nothing of the predecessors is left."""
        self._write([self._instance])

    def _write(self, instances: list[int]) -> None:
        us = Owner(identity.host(), os.getpid(), instances, time.time())
        os.pwrite(self.fd, us.to_bytes(), 0)

    @property
    def may_take_over(self) -> bool:
        """Whether it is proven that the predecessor is dead, on this very machine.

        Same boot and pids: it would still hold the lock.  Another boot of the same machine: it did
        not survive that.  A predecessor in another container of this boot cannot be judged.
        """
        host = identity.host()
        if self.previous is None or not all(host.as_tuple()):
            return False
        before = self.previous.host
        return before.machine_id == host.machine_id and (
            (bool(before.boot_id) and before.boot_id != host.boot_id) or self._previous_is_visible
        )

    @property
    def dead_owner(self) -> Owner | None:
        """The predecessor that is proven to be dead; None where nothing is proven."""
        return self.previous if self.may_take_over else None

    def release(self) -> None:
        """Give it up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def acquire(path: Path, *, instance: int) -> Lock | HeldBy:
    """Get the lock, or learn who has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = Owner.from_bytes(os.pread(fd, _RECORD_BYTES, 0))
            os.close(fd)
            return HeldBy(path, owner)
        except BaseException:
            os.close(fd)
            raise
        # Somebody may have removed the file between our two calls: then it locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                previous = Owner.from_bytes(os.pread(fd, _RECORD_BYTES, 0))
                return Lock(path, fd, previous, instance)
        os.close(fd)
