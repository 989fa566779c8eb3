"""The runner's processes: started, waited for, stopped, and never left behind.

Everything here belongs to the one thread of the asyncio loop.  There is no thread per child, and
no waitpid(-1): a pidfd tells that a leader has ended, the leader stays a zombie while anything of
its job lives, so that its process group cannot become somebody else's, and is reaped last.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from typing import NamedTuple

from persona_pg.runner import procfs, tree
from persona_pg.runner.control import Control, members, remove_group
from persona_pg.runner.readers import readers
from persona_pg.runner.spawn import (
    Child,
    ChildSpec,
    DescriptorSeal,
    Exit,
    SpawnError,
    find_program,
    spawn,
)

__all__ = ["Child", "ChildSpec", "Exit", "Processes", "SpawnError", "Usage"]

_LOOK_AGAIN_SECONDS = 0.1
_KILLING_SECONDS = 5.0
# A look at all processes that took t is followed by none for 9 t: a tenth of the time at most.
_PAUSE_PER_COST = 9.0
_CHEAP_SECONDS = 0.0005
_WATCHED_AT_MOST = 256
_POLL_SECONDS = 0.02
# Two pipes, a pidfd and a socket; and what the runner has open itself, or opens for a look.
_DESCRIPTORS_OF_A_JOB = 4
_DESCRIPTORS_KEPT = 40
# A zombie of ours without a token may be waited for by other code in this process.
_FOREIGN_ZOMBIE_SECONDS = 10.0


class Usage(NamedTuple):
    """What all living processes of a job use together."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class _Ward:
    """A child with what is being done about it."""

    __slots__ = (
        "_tree", "child", "exited", "gone", "group", "kill_at", "killed_at", "strays", "told",
    )  # fmt: skip

    def __init__(self, child: Child, group: str, gone: asyncio.Future[Exit]) -> None:
        self.child = child
        self.group = group  # its control group, if it has one
        self._tree: tree.Tree | None = None
        self.gone = gone
        self.exited: asyncio.Future[None] | None = None
        self.told: str | None = None  # who was there when SIGTERM was sent last
        self.kill_at: float | None = None  # set: it is being ended
        self.killed_at: float | None = None
        self.strays: set[int] = set()

    @property
    def tree(self) -> tree.Tree:
        """What is known of its processes; made when somebody has to look at them at all."""
        if self._tree is None:
            child = self.child
            self._tree = tree.Tree(
                child.pid, child.start_time, child.token, child.mark, group_is_ours=True
            )
            self._tree.cgroup = self.group
        return self._tree


class Processes:
    """All children of a runner, and the orphans they leave."""

    def __init__(
        self,
        instance: int | None = None,
        *,
        walk: bool = False,
        control: Control | None = None,
    ) -> None:
        self.instance = instance or procfs.new_instance()
        self._control = control or Control("subreaper")
        self.is_subreaper = procfs.become_subreaper()
        self._seal = DescriptorSeal()
        self._own_children = procfs.OwnChildren(walk=walk)
        self._wards: dict[int, _Ward] = {}
        self._ended: dict[_Ward, None] = {}
        self._exempt: set[int] = set()
        self._claimed: dict[int, _Ward] = {}
        self._unclaimed: set[int] = set()
        self._zombies: dict[int, float] = {}
        self._watched: dict[int, int] = {}
        self._sweep_timer: asyncio.Handle | None = None
        self._round_timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    # -- starting and waiting

    def new_token(self) -> int:
        """Make the token of a job, to be announced to the guardian before the job starts."""
        return procfs.new_token(self.instance)

    @property
    def children(self) -> list[Child]:
        """Those of which anything may still live."""
        return [ward.child for ward in self._wards.values()]

    def exempt(self, pid: int) -> None:
        """Leave this child of ours alone: somebody else waits for it."""
        self._exempt.add(pid)

    def spawn(self, spec: ChildSpec) -> Child:
        """Start a program; SpawnError: nothing has run."""
        try:
            self._check_descriptors()
            self._seal.apply()
        except OSError as error:
            program = spec.argv[0] if spec.argv else ""
            words = f"program '{program}' cannot be run: {error.strerror}"
            raise SpawnError("resources", words, program) from error
        token = spec.token if spec.token is not None else self.new_token()
        group = ""
        if self._control.kind != "subreaper":
            # What cannot be started is refused here, and not by what starts it.
            find_program(spec.argv[0] if spec.argv else "", spec.env, spec.cwd)
            argv, group = self._control.wrap(spec.argv, token)
            spec = replace(spec, argv=argv)
        try:
            child = spawn(spec, token)
        except SpawnError:
            if group:
                remove_group(group)
            raise
        loop = asyncio.get_running_loop()
        ward = self._wards[child.pid] = _Ward(child, group, loop.create_future())
        if child.pidfd >= 0:
            readers().add(child.pidfd, functools.partial(self._leader_ended, ward))
        else:
            loop.call_later(_POLL_SECONDS, self._poll_leader, ward)
        return child

    def _check_descriptors(self) -> None:
        """Refuse to start what would leave us without descriptors to look after the others."""
        wanted = (len(self._wards) + 1) * _DESCRIPTORS_OF_A_JOB + _DESCRIPTORS_KEPT
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft != resource.RLIM_INFINITY and wanted > soft:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def wait_exit(self, child: Child) -> None:
        """Wait until the leader has ended; the rest of its tree may live on for a moment."""
        ward = self._wards.get(child.pid)
        if ward is None or ward.child is not child or child.has_exited:
            return
        if ward.exited is None:
            ward.exited = asyncio.get_running_loop().create_future()
        await asyncio.shield(ward.exited)

    async def wait_gone(self, child: Child) -> Exit:
        """Wait until the whole tree is gone: what outlives the leader is ended, see ChildSpec."""
        ward = self._wards.get(child.pid)
        if ward is not None and ward.child is child:
            return await asyncio.shield(ward.gone)
        if child.exit is None:
            raise ValueError(f"{child} is none of ours")
        return child.exit

    # -- stopping

    async def stop(self, child: Child, grace: float) -> Exit:
        """End the whole tree: SIGTERM, *grace* seconds, SIGKILL.  A later call may shorten it."""
        self.begin_stop(child, grace)
        return await self.wait_gone(child)

    def begin_stop(self, child: Child, grace: float) -> None:
        """Do what `stop` does, without waiting.  Many at once share their looks at /proc."""
        ward = self._wards.get(child.pid)
        if ward is not None and ward.child is child:
            self._begin_end(ward, grace)

    def freeze(self, *children: Child) -> None:
        """SIGSTOP whole trees."""
        tree.freeze([ward.tree for ward in self._wards_of(children)])

    def thaw(self, *children: Child) -> None:
        """SIGCONT whole trees."""
        wards = self._wards_of(children)
        snapshot = tree.Snapshot()
        for ward in wards:
            tree.signal_all(ward.tree, snapshot.members(ward.tree), snapshot, signal.SIGCONT)

    def freeze_all(self) -> None:
        """SIGSTOP everything, after a sleep, until the leases are known to be ours."""
        self.freeze(*self.children)

    def thaw_all(self) -> None:
        """SIGCONT everything."""
        self.thaw(*self.children)

    async def close(self) -> None:
        """Kill what is left, and give the descriptors back."""
        wards = list(self._wards.values())
        for ward in wards:
            self._begin_end(ward, 0.0)
        if wards:
            await asyncio.wait([ward.gone for ward in wards])
        for timer in (self._sweep_timer, self._round_timer):
            if timer is not None:
                timer.cancel()
        for pid in list(self._watched):
            self._unwatch(pid)
        self._own_children.close()

    # -- looking

    def members(self, child: Child) -> list[procfs.Process]:
        """Return the living processes of a job."""
        return [
            process
            for ward in self._wards_of((child,))
            for process in tree.Snapshot().members(ward.tree)
        ]

    def usage(self) -> dict[Child, Usage]:
        """Return what each job uses now, by one look at /proc.

        Who is seen here is known as the job's from now on, whatever becomes of its parents, so
        this also makes the later end of a tree surer.  Zombies that were adopted are reaped.
        """
        snapshot = tree.Snapshot()
        result = {}
        for ward in self._wards.values():
            members = snapshot.members(ward.tree)
            result[ward.child] = Usage(
                sum(process.cpu_seconds for process in members),
                sum(process.rss for process in members),
                len(members),
            )
        self._schedule_sweep()
        return result

    def unclaimed(self) -> list[int]:
        """Return orphans of ours that carry nobody's token or mark: they are never signalled."""
        return sorted(self._unclaimed)

    def _wards_of(self, children: tuple[Child, ...]) -> list[_Ward]:
        found = (self._wards.get(child.pid) for child in children)
        return [ward for ward in found if ward is not None and ward.child in children]

    # -- a leader has ended

    def _poll_leader(self, ward: _Ward) -> None:
        if ward.child.exited():
            self._leader_ended(ward)
        else:
            asyncio.get_running_loop().call_later(_POLL_SECONDS, self._poll_leader, ward)

    def _leader_ended(self, ward: _Ward) -> None:
        child = ward.child
        if child.pidfd >= 0:
            readers().remove(child.pidfd)
        child.has_exited = True
        if ward.exited is not None and not ward.exited.done():
            ward.exited.set_result(None)
        self._ended[ward] = None
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        """Look once for all leaders that end at about this moment."""
        if self._sweep_timer is None:
            loop = asyncio.get_running_loop()
            delay = self._not_before - loop.time()
            self._sweep_timer = (
                loop.call_later(delay, self._sweep) if delay > 0 else loop.call_soon(self._sweep)
            )

    def _sweep(self) -> None:
        """Find out which of the ended leaders have left nothing behind: usually all of them.

        Whoever outlives a leader is our child by now, or descends from such a child.  So a leader
        without an orphan that is claimed for it is the last of its tree.
        """
        self._sweep_timer = None
        began = time.monotonic()
        try:
            is_certain = self._claim_orphans()
        except Exception as error:  # noqa: BLE001 no descriptors, no memory, or a fault of ours
            # What cannot be seen is not gone.
            self._look_failed(error)
            self._schedule_sweep()
            return
        self._pause_after(time.monotonic() - began)
        if not is_certain:
            self._schedule_sweep()
            return
        ended, self._ended = self._ended, {}
        for ward in ended:
            is_alone = not any(owner is ward for owner in self._claimed.values())
            if is_alone and not (ward.group and members(ward.group)):
                self._finish(ward)
            elif ward.kill_at is None:
                self._begin_end(ward, ward.child.stray_grace)

    def _look_failed(self, error: Exception) -> None:
        loop = asyncio.get_running_loop()
        self._not_before = loop.time() + _LOOK_AGAIN_SECONDS
        if not isinstance(error, OSError):
            loop.call_exception_handler({"message": "looking at processes", "exception": error})

    def _pause_after(self, cost: float) -> None:
        """Keep walks through /proc to a tenth of the time; the cheap list of children is free."""
        if cost > _CHEAP_SECONDS:
            pause = min(cost * _PAUSE_PER_COST, _LOOK_AGAIN_SECONDS)
            self._not_before = asyncio.get_running_loop().time() + pause

    def _claim_orphans(self) -> bool:
        """Find the owners of newly adopted processes; False: one of them has just ended.

        That one may have left children of its own, so the next look decides.
        """
        new = self._new_orphans()
        if not new and self.is_subreaper:
            return True
        snapshot = tree.Snapshot()
        owners = {
            process.pid: ward
            for ward in self._wards.values()
            for process in snapshot.members(ward.tree)
        }
        if not self.is_subreaper:  # nobody is adopted: the members themselves are what is left
            self._claimed = {pid: owner for pid, owner in owners.items() if owner in self._ended}
            return True
        late = []
        is_certain = True
        for pid in new:
            process = snapshot.processes.get(pid)
            if process is None or not process.is_alive:
                is_certain = False
            elif pid in owners:
                self._claimed[pid] = owners[pid]
            elif procfs.instance_of(snapshot.tokens.get(pid)) == self.instance:
                late.append(tree.Tree(0, 0, snapshot.tokens[pid]))  # its job is over: it hid
                is_certain = False
            else:
                self._unclaimed.add(pid)
        if late:
            tree.kill_round(late)
            self._not_before = asyncio.get_running_loop().time() + _LOOK_AGAIN_SECONDS
        return is_certain

    def _new_orphans(self) -> list[int]:
        """Return adopted processes not examined yet; reap adopted zombies on the way."""
        while True:
            children = self._own_children.read()
            self._forget_all_but(children)
            new, reaped = [], False
            for pid in children:
                if pid in self._wards or pid in self._exempt:
                    continue
                if procfs.has_exited(pid):
                    reaped |= self._reap_adopted(pid)
                elif pid not in self._unclaimed and pid not in self._claimed:
                    new.append(pid)
            # The children of one that has just ended may be missing from a walk that is not atomic
            if not reaped:
                return new

    def _forget_all_but(self, children: list[int]) -> None:
        """Forget the others: a pid that is not our child any more may soon be anybody's."""
        if self._exempt or self._unclaimed or self._zombies:
            self._exempt.intersection_update(children)
            self._unclaimed.intersection_update(children)
            self._zombies = {pid: at for pid, at in self._zombies.items() if pid in children}

    def _reap_adopted(self, pid: int) -> bool:
        """Reap it if it was a job's; give other code in this process time to do it otherwise."""
        is_ours = pid in self._claimed or pid in self._unclaimed
        if not is_ours and procfs.instance_of(procfs.read_token(pid)) != self.instance:
            now = procfs.boottime()
            if now - self._zombies.setdefault(pid, now) < _FOREIGN_ZOMBIE_SECONDS:
                return False
        with contextlib.suppress(ChildProcessError):
            procfs.reap(pid)
        self._claimed.pop(pid, None)
        return True

    def _finish(self, ward: _Ward, survivors: tuple[int, ...] = ()) -> None:
        """Reap the leader and tell: nothing of the job is left."""
        child = ward.child
        if self._wards.get(child.pid) is not ward:
            return
        del self._wards[child.pid]
        strays = tuple(sorted(ward.strays))
        code = procfs.reap(child.pid)
        if code is None:  # state D: it cannot even be killed; reaped as an adopted one later
            self._claimed[child.pid] = ward
            code = -signal.SIGKILL
        if code >= 0:
            child.exit = Exit(code, None, strays, survivors)
        else:
            child.exit = Exit(128 - code, -code, strays, survivors)
        if child.pidfd >= 0:
            readers().remove(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        child.has_exited = True
        if ward.group:
            remove_group(ward.group)
        if ward.exited is not None and not ward.exited.done():
            ward.exited.set_result(None)
        ward.gone.set_result(child.exit)

    # -- ending a tree

    def _begin_end(self, ward: _Ward, grace: float) -> None:
        kill_at = asyncio.get_running_loop().time() + grace
        if ward.kill_at is None or kill_at < ward.kill_at:
            ward.kill_at = kill_at
            self._schedule_round(0.0)

    def _schedule_round(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        at = max(loop.time() + delay, self._not_before)
        if self._round_timer is not None:
            if self._round_timer.when() <= at:
                return
            self._round_timer.cancel()
        self._round_timer = loop.call_at(at, self._round)

    def _round(self) -> None:
        """Look at everything that is being ended, and do what is next for each."""
        self._round_timer = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        ending = [ward for ward in self._wards.values() if ward.kill_at is not None]
        if not ending:
            return
        try:
            self._end_some(ending, began)
        except Exception as error:  # noqa: BLE001 as in _sweep
            self._look_failed(error)
        else:
            self._pause_after(loop.time() - began)
        left = [ward.kill_at for ward in self._wards.values() if ward.kill_at is not None]
        if left:
            until_kill = min(left) - loop.time()
            wait = until_kill if 0 < until_kill < _LOOK_AGAIN_SECONDS else _LOOK_AGAIN_SECONDS
            self._schedule_round(wait)
        else:
            for pid in list(self._watched):
                self._unwatch(pid)

    def _end_some(self, ending: list[_Ward], now: float) -> None:
        is_urgent = any(ward.kill_at is not None and now >= ward.kill_at for ward in ending)
        with tree.urgently() if is_urgent else contextlib.nullcontext():
            snapshot = tree.Snapshot()
        late = []
        for ward in ending:
            members = snapshot.members(ward.tree)
            if ward.child.has_exited:
                ward.strays.update(process.pid for process in members)
            if not members and ward.child.exited():
                self._ended[ward] = None  # by the exact look
                self._schedule_sweep()
            elif ward.kill_at is not None and now >= ward.kill_at:
                ward.killed_at = ward.killed_at or now
                if now - ward.killed_at > _KILLING_SECONDS:
                    self._finish(ward, tuple(sorted(process.pid for process in members)))
                else:
                    late.append(ward)
            else:
                # Once more when the leader is gone: who is forked in the instant of a SIGTERM may
                # lose it in the handler that it has only until its exec.
                there = "strays" if ward.child.has_exited else "all"
                if ward.told != there:
                    ward.told = there
                    tree.signal_all(ward.tree, members, snapshot, signal.SIGTERM)
                    # One that is stopped could not even hear it.
                    tree.signal_all(ward.tree, members, snapshot, signal.SIGCONT)
                self._watch(members)
        for ward in late:
            self._control.kill(ward.group, ward.child.token or 0)
        if late:
            self._watch(tree.kill_round([ward.tree for ward in late]))

    def _watch(self, members: list[procfs.Process]) -> None:
        """Be woken when one of them ends; what cannot be watched is looked at again anyway."""
        if sys.platform != "linux":
            return
        for process in members:
            if process.pid in self._watched or process.pid in self._wards:
                continue
            if len(self._watched) >= _WATCHED_AT_MOST:
                return
            pidfd = None
            with contextlib.suppress(OSError):
                pidfd = procfs.open_process(process.pid, process.start_time)
            if pidfd is not None:
                self._watched[process.pid] = pidfd
                readers().add(pidfd, functools.partial(self._member_ended, process.pid))

    def _member_ended(self, pid: int) -> None:
        self._unwatch(pid)
        self._schedule_round(0.0)

    def _unwatch(self, pid: int) -> None:
        pidfd = self._watched.pop(pid)
        readers().remove(pidfd)
        os.close(pidfd)
