"""Which processes belong to a job, and ending them all: nothing left behind, no stranger hit.

A process belongs to a job when it is in the group or the session of the job's leader (while the
leader is not reaped, nobody else can have these numbers), descends from it, was seen to, or
carries its token.  One of our adopted orphans that carries nobody's token belongs to the job whose
id stands in its environment.  Everything else is a stranger, and is never signalled.

Why one walk through /proc is enough although it is not atomic: whoever lives when it begins has
an ancestor that is the leader or an adopted child of ours, and that one stays visible, as a zombie
if need be, until we reap it.  Whoever stands still, stopped, begins nobody; but one that was sent
SIGSTOP in the middle of a fork finishes it first, so there is another look after all do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from persona_pg.runner import control, procfs

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator

# How long one round may go on stopping what a fork bomb adds, before it kills what it has.
_STOPPING_SECONDS = 1.0
_SETTLING_SECONDS = 0.001
_KILLING_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05


class Tree:
    """What is known of one job's processes."""

    __slots__ = (
        "cgroup", "group_is_ours", "instance", "known", "mark", "pid", "start_time", "token",
    )  # fmt: skip

    def __init__(
        self,
        pid: int,
        start_time: int,
        token: int | None,
        mark: str | None = None,
        *,
        group_is_ours: bool = False,
        instance: int | None = None,
    ) -> None:
        self.pid = pid  # 0: not started yet, or not known
        self.start_time = start_time
        self.token = token
        self.mark = mark
        # The leader is a child of this process and not reaped: only then may the group be signalled
        self.group_is_ours = group_is_ours
        # Instead of one job: everything that a runner ever started.
        self.instance = instance
        # Its control group, where it has one: whoever is in it is a member.
        self.cgroup = ""
        # Members seen so far: still ours after their parents are gone.
        self.known: dict[int, int] = {}


class Snapshot:
    """All processes at about one moment, found by what links them to a job."""

    def __init__(
        self,
        protected: tuple[int, ...] = (),
        settled: dict[int, procfs.Process] | None = None,
        tokens: dict[int, int] | None = None,
    ) -> None:
        self.processes = procfs.snapshot(settled)
        # A runner carries a token itself for the instant in which it starts a job.
        self._protected = {1, os.getpid(), os.getppid(), *protected}
        self.tokens: dict[int, int] = {}
        self._children: dict[int, list[procfs.Process]] = {}
        self._groups: dict[int, list[procfs.Process]] = {}
        self._sessions: dict[int, list[procfs.Process]] = {}
        self._by_token: dict[int, list[procfs.Process]] = {}
        for process in self.processes.values():
            self._children.setdefault(process.ppid, []).append(process)
            if not process.is_alive:
                continue
            self._groups.setdefault(process.pgid, []).append(process)
            self._sessions.setdefault(process.session, []).append(process)
            token = (
                tokens.get(process.pid)
                if settled and tokens is not None and settled.get(process.pid) is process
                else procfs.read_token(process.pid)
            )
            if token is not None:
                self.tokens[process.pid] = token
                self._by_token.setdefault(token, []).append(process)

    def children_of(self, pid: int) -> list[procfs.Process]:
        """Return all children of a process, zombies too."""
        return self._children.get(pid, [])

    def members(self, tree: Tree) -> list[procfs.Process]:
        """Return the living processes of a job, and remember them as its own."""
        found: dict[int, procfs.Process] = {}
        waiting = self._roots(tree)
        while waiting:
            process = waiting.pop()
            if (
                process.pid in found
                or process.pid in self._protected
                or not process.is_alive
                or process.start_time < tree.start_time
            ):
                continue
            found[process.pid] = process
            waiting.extend(
                child
                for child in self.children_of(process.pid)
                # A child is no older than its parent: if it is, the pid has been used again.
                if child.start_time >= process.start_time
            )
        tree.known = {process.pid: process.start_time for process in found.values()}
        return list(found.values())

    def _roots(self, tree: Tree) -> list[procfs.Process]:
        roots = []
        leader = self.processes.get(tree.pid)
        if leader is not None and leader.start_time == tree.start_time:
            roots.append(leader)
            roots += self._groups.get(tree.pid, [])
            roots += self._sessions.get(tree.pid, [])
        for pid, started in tree.known.items():
            process = self.processes.get(pid)
            if process is not None and process.start_time == started:
                roots.append(process)
        if tree.token is not None:
            roots += self._by_token.get(tree.token, [])
        if tree.cgroup:
            inside = control.members(tree.cgroup)
            roots += [self.processes[pid] for pid in inside if pid in self.processes]
        if tree.instance is not None:
            for token, processes in self._by_token.items():
                if procfs.instance_of(token) == tree.instance:
                    roots += processes
        if tree.mark is not None:
            roots += [
                process
                for process in self.children_of(os.getpid())
                if process.is_alive
                and procfs.instance_of(self.tokens.get(process.pid)) is None
                and procfs.has_mark(process.pid, tree.mark)
            ]
        return roots


def signal_all(tree: Tree, members: list[procfs.Process], snapshot: Snapshot, number: int) -> None:
    """Send a signal to every member: the group at once where it is ours, the others one by one."""
    if tree.group_is_ours:
        # Lacking: nobody but the zombie of the leader is left.  Refused: another user's process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(tree.pid, number)
    for process in members:
        if not (tree.group_is_ours and process.pgid == tree.pid):
            token = snapshot.tokens.get(process.pid)
            procfs.signal_process(process.pid, process.start_time, number, token)


def freeze(
    trees: list[Tree], protected: tuple[int, ...] = ()
) -> tuple[Snapshot, list[tuple[Tree, list[procfs.Process]]]]:
    """Stop every member, and look until one look finds only who stood still before it."""
    give_up = procfs.boottime() + _STOPPING_SECONDS
    told: dict[int, int] = {}
    still: dict[int, procfs.Process] = {}
    with urgently():
        snapshot = Snapshot(protected)
        while True:
            members = [(tree, snapshot.members(tree)) for tree in trees]
            is_over, is_awaited = True, False
            for tree, processes in members:
                fresh = []
                for process in processes:
                    if still.get(process.pid) is process:
                        continue
                    is_over = False
                    if told.get(process.pid) != process.start_time:
                        told[process.pid] = process.start_time
                        fresh.append(process)
                    elif process.stands_still or not procfs.may_signal(process.pid):
                        still[process.pid] = process
                    else:
                        is_awaited = True
                if fresh:
                    signal_all(tree, fresh, snapshot, signal.SIGSTOP)
            if is_over or procfs.boottime() > give_up:
                return snapshot, members
            if is_awaited:
                time.sleep(_SETTLING_SECONDS)  # run urgently, we may leave them no turn to stop in
            # Who stands still need not be read again: each look costs what is new since the last.
            snapshot = Snapshot(protected, still, snapshot.tokens)


@contextlib.contextmanager
def urgently() -> Iterator[None]:
    """Run before all ordinary processes, where we may: a fork bomb leaves us no turn otherwise.

    Measured with 60 processes, each of them making another one every 20 ms, on 2 busy cores: 5 ms
    instead of 2.6 s for the first look, in which they had become 6,000.
    """
    with contextlib.ExitStack() as undo:
        if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
                undo.callback(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0))
        yield


def kill_round(trees: list[Tree], protected: tuple[int, ...] = ()) -> list[procfs.Process]:
    """Stop every member first, then kill them all; return them.

    Stopped, a fork bomb cannot outrun us, and nobody loses the parent that shows whose child
    it is.
    """
    snapshot, members = freeze(trees, protected)
    for tree, processes in members:
        if tree.cgroup:
            control.kill_group(tree.cgroup)
        if processes:
            signal_all(tree, processes, snapshot, signal.SIGKILL)
    return [process for _, processes in members for process in processes]


def wait_for_end(processes: list[procfs.Process], timeout: float) -> None:
    """Wait until these processes (of many: the first) have ended, at most *timeout* seconds."""
    if not procfs.LINUX:
        select.select([], [], [], timeout)
        return
    give_up = procfs.boottime() + timeout
    poll = select.poll()
    opened = set()
    try:
        for process in processes[:64]:
            pidfd = procfs.open_process(process.pid, process.start_time)
            if pidfd is not None:
                opened.add(pidfd)
                poll.register(pidfd, select.POLLIN)
        while opened and (left := give_up - procfs.boottime()) > 0:
            for pidfd, _ in poll.poll(left * 1000):
                poll.unregister(pidfd)
                opened.remove(pidfd)
                os.close(pidfd)
    finally:
        for pidfd in opened:
            os.close(pidfd)


def kill(
    trees: list[Tree], protected: tuple[int, ...] = (), seconds: float = _KILLING_SECONDS
) -> tuple[list[int], list[int]]:
    """Kill until nothing is left, for a bounded time: pids killed, pids that would not die."""
    give_up = procfs.boottime() + seconds
    killed: set[int] = set()
    while True:
        members = kill_round(trees, protected)
        if not members:
            return sorted(killed), []
        if procfs.boottime() > give_up:
            return sorted(killed), sorted(process.pid for process in members)
        killed.update(process.pid for process in members)
        wait_for_end(members, _LOOK_AGAIN_SECONDS)


def kill_instances(instances: list[int]) -> list[int]:
    """Kill whatever still carries a token of these runner instances; return the pids.

    For the successor of a runner that died together with its guardian.
    """
    if not instances:
        return []
    return kill([Tree(0, 0, None, instance=instance) for instance in instances])[0]
