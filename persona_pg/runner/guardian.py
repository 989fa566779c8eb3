"""The guardian: parent of a runner, small, and alive just long enough to clean up after it.

It knows the deadline of every job, so that a runner that is stopped (SIGSTOP) cannot let its jobs
run on past their leases.  And it is the one to whom the kernel gives what a killed runner leaves:
as a child of the runner it would never see that, as its parent and subreaper it does.

Nothing heavy may be imported here; the runner loads what it needs after the fork.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

from persona_pg.runner import control, procfs, tree
from persona_pg.runner.records import (
    AFTER_SLEEP_SECONDS,
    KILLED,
    PING,
    PONG,
    RECORD,
    REGISTER,
    RELEASE,
    RENEW,
)

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The poll's clock stops while the machine sleeps, the deadlines' clock does not.
_LONGEST_POLL_SECONDS = 1.0
_SLEEP_NOTICED_SECONDS = 1.0
# Records are collected for so long: a busy runner does not wake its guardian for every job.
_GATHER_SECONDS = 0.02
_KILL_SECONDS = 1.0
_LAST_KILL_SECONDS = 5.0
_FDS_AT_MOST = 8


class _Entry:
    """A job that runs, and when it must be over."""

    __slots__ = ("deadline", "is_frozen", "tree")

    def __init__(self, job: tree.Tree, deadline: float) -> None:
        self.tree = job
        self.deadline = deadline
        self.is_frozen = False


class Guardian:
    """The table of a runner's jobs, and what is done about them."""

    def __init__(
        self, link: socket.socket, runner: int, instance: int, *, groups: str = ""
    ) -> None:
        self.runner = runner
        self.instance = instance
        self.table: dict[int, _Entry] = {}
        self.slept_at = -AFTER_SLEEP_SECONDS
        self._link: socket.socket | None = link
        link.setblocking(False)
        self._rest = b""
        self._held: list[int] = []
        self._asleep = procfs.boottime() - time.monotonic()
        # Where the runner makes the groups of its jobs, if it makes any.
        self._groups = groups

    # -- the socket

    def read_records(self) -> None:
        """Take in what the runner has sent so far."""
        while self._link is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._link, 65536, _FDS_AT_MOST)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            self._held += fds
            if not data:
                # It ends, or has another guardian now: these deadlines are not renewed any more.
                self._link.close()
                self._link = None
                for entry in self.table.values():
                    entry.deadline = float("inf")
                return
            data = self._rest + data
            whole = len(data) - len(data) % RECORD.size
            self._rest = data[whole:]
            for record in RECORD.iter_unpack(data[:whole]):
                self._take(*record)

    def _take(self, kind: int, pid: int, started: int, token: int, deadline: float) -> None:
        entry = self.table.get(token)
        if kind == REGISTER:
            if entry is None:
                self.table[token] = _Entry(tree.Tree(pid, started, token), deadline)
            else:
                entry.tree.pid, entry.tree.start_time = pid, started
                self._renew(entry, deadline)
        elif kind == RENEW and entry is not None:
            self._renew(entry, deadline)
        elif kind == RELEASE:
            self.table.pop(token, None)
        elif kind == PING:
            self._send(PONG, token)

    def _renew(self, entry: _Entry, deadline: float) -> None:
        if entry.is_frozen and deadline <= procfs.boottime():
            return  # an answer from before we stood still
        entry.deadline = deadline
        if entry.is_frozen:
            entry.is_frozen = False
            snapshot = tree.Snapshot((self.runner,))
            members = snapshot.members(entry.tree)
            tree.signal_all(entry.tree, members, snapshot, signal.SIGCONT)

    def _send(self, kind: int, token: int) -> None:
        if self._link is not None:
            with contextlib.suppress(OSError):  # a stopped runner reads nothing: it will see
                self._link.send(RECORD.pack(kind, 0, 0, token, 0.0))

    # -- deadlines

    def look_at_clocks(self, now: float, monotonic: float) -> None:
        """Notice that the machine was asleep."""
        asleep = now - monotonic
        if asleep - self._asleep > _SLEEP_NOTICED_SECONDS:
            self.slept_at = now
        self._asleep = asleep

    def expire(self, now: float) -> None:
        """Kill what was not renewed in time.

        Right after a sleep, or when we come too late ourselves because we were stopped, it is only
        stopped: the runner may find that nobody has taken the job meanwhile.  Stopped, it does
        nothing that a second execution could collide with.
        """
        late = [entry for entry in self.table.values() if entry.deadline <= now]
        missed = [
            entry
            for entry in late
            if now - entry.deadline > _SLEEP_NOTICED_SECONDS and not entry.is_frozen
        ]
        patience = self.slept_at + AFTER_SLEEP_SECONDS
        if now < patience:
            missed = late
        else:
            patience = now + AFTER_SLEEP_SECONDS
        if missed:
            self._find_groups(missed)
            for entry in missed:
                entry.is_frozen = True
                entry.deadline = patience
            tree.freeze([entry.tree for entry in missed], (self.runner,))
        late = [entry for entry in late if not entry.is_frozen or entry.deadline <= now]
        if not late:
            return
        self._find_groups(late)
        _, survivors = tree.kill([entry.tree for entry in late], (self.runner,), _KILL_SECONDS)
        if survivors:
            return  # looked at again at once
        for entry in late:
            token = entry.tree.token or 0
            self.table.pop(token, None)
            self._send(KILLED, token)

    def _find_groups(self, entries: Iterable[_Entry]) -> None:
        if not self._groups:
            return
        for entry in entries:
            for group in control.groups_of(self._groups, entry.tree.token or 0):
                entry.tree.cgroup = group

    def seconds_to_sleep(self, now: float) -> float | None:
        """Return how long nothing is due; None: as long as nothing happens."""
        if not self.table:
            return None
        nearest = min(entry.deadline for entry in self.table.values()) - now
        return max(0.0, min(nearest, _LONGEST_POLL_SECONDS))

    # -- the end

    def clean_up(self) -> list[int]:
        """Kill all that the runner has left, registered or not; return what would not die."""
        self.read_records()
        now = procfs.snapshot()
        self._find_groups(self.table.values())
        trees = [entry.tree for entry in self.table.values()]
        for job in trees:
            leader = now.get(job.pid)
            # An orphan of the runner is our own child: nobody else can get its group's number.
            job.group_is_ours = (
                leader is not None
                and leader.ppid == os.getpid()
                and leader.start_time == job.start_time
            )
        everything = tree.Tree(0, 0, None, procfs.ANY_MARK, instance=self.instance)
        survivors = tree.kill([*trees, everything], (), _LAST_KILL_SECONDS)[1]
        for job in trees:
            if job.cgroup:
                control.remove_group(job.cgroup)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return survivors

    def serve(self, has_ended: Callable[[], bool], on_signal: Callable[[int], None]) -> None:
        """Wait for records, signals and deadlines until the runner has ended."""
        wake = _signal_pipe()
        urgent, anything = select.poll(), select.poll()
        ends = [wake]
        if procfs.LINUX:
            with contextlib.suppress(ProcessLookupError):
                ends.append(os.pidfd_open(self.runner))
        for end in ends:
            urgent.register(end, select.POLLIN)
            anything.register(end, select.POLLIN)
        link = None if self._link is None else self._link.fileno()
        if link is not None:
            anything.register(link, select.POLLIN)
        while not has_ended():
            now = procfs.boottime()
            self.look_at_clocks(now, time.monotonic())
            self.read_records()
            if link is not None and self._link is None:
                anything.unregister(link)
                link = None
            wait = self._act(now)
            if link is None and not procfs.LINUX:
                wait = _LONGEST_POLL_SECONDS if wait is None else wait
            ready = anything.poll(None if wait is None else wait * 1000)
            if [fd for fd, _ in ready] == [link]:
                urgent.poll(_GATHER_SECONDS * 1000)
            with contextlib.suppress(BlockingIOError):
                for number in os.read(wake, 4096):
                    on_signal(number)

    def _act(self, now: float) -> float | None:
        try:
            self.expire(now)
        except OSError:
            return _GATHER_SECONDS  # no descriptors, no memory: again
        return self.seconds_to_sleep(procfs.boottime())


def _signal_pipe() -> int:
    """Make signals readable; returns the descriptor to read their numbers from."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read
