"""The runner's processes: started, waited for, stopped, and never left behind.

Everything here belongs to the one thread of the asyncio loop.  There is no thread per child, and
no waitpid(-1): a pidfd tells that a leader has ended, the leader stays a zombie while anything of
its job lives, so that its process group cannot become somebody else's, and is reaped last.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from dataclasses import replace

from persona_pg.runner import children, procfs, tree
from persona_pg.runner.control import Control, members, remove_group
from persona_pg.runner.descriptors import DescriptorSeal, check_room
from persona_pg.runner.endings import Endings
from persona_pg.runner.orphans import Orphans
from persona_pg.runner.pace import Pace
from persona_pg.runner.programs import SpawnError, check_interpreter
from persona_pg.runner.readers import readers
from persona_pg.runner.spawn import (
    Child,
    ChildSpec,
    Exit,
    spawn,
)
from persona_pg.runner.ward import Usage, Ward

__all__ = ["Child", "ChildSpec", "Exit", "Processes", "SpawnError", "Usage"]

_POLL_SECONDS = 0.02


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
        self._orphans = Orphans(self.instance, walk=walk)
        self._seal = DescriptorSeal()
        self._wards: dict[int, Ward] = {}
        self._ended: dict[Ward, None] = {}
        self._sweep_timer: asyncio.Handle | None = None
        self._pace = Pace()
        self._endings = Endings(
            self._wards,
            self._control,
            self._pace,
            on_empty=self._by_exact_look,
            on_survived=self._finish,
        )

    # -- starting and waiting

    def new_token(self) -> int:
        """Make the token of a job, to be announced to the guardian before the job starts."""
        return procfs.new_token(self.instance)

    @property
    def is_subreaper(self) -> bool:
        """Tell whether orphans become our children."""
        return self._orphans.is_subreaper

    @property
    def children(self) -> list[Child]:
        """Those of which anything may still live."""
        return [ward.child for ward in self._wards.values()]

    def exempt(self, pid: int) -> None:
        """Leave this child of ours alone: somebody else waits for it."""
        self._orphans.exempt.add(pid)

    def spawn(self, spec: ChildSpec) -> Child:
        """Start a program; SpawnError: nothing has run."""
        try:
            check_room(len(self._wards) + 1)
            self._seal.apply()
        except OSError as error:
            program = spec.argv[0] if spec.argv else ""
            words = f"program '{program}' cannot be run: {error.strerror}"
            raise SpawnError("resources", words, program) from error
        token = spec.token if spec.token is not None else self.new_token()
        group = ""
        if self._control.kind != "subreaper":
            check_interpreter(spec.argv, spec.env, spec.cwd)
            launcher, group = self._control.launcher(token)
            spec = replace(spec, launcher=(*spec.launcher, *launcher))
        try:
            child = spawn(spec, token)
        except SpawnError:
            if group:
                remove_group(group)
            raise
        loop = asyncio.get_running_loop()
        ward = self._wards[child.pid] = Ward(child, group, loop.create_future())
        if child.pidfd >= 0:
            readers().add(child.pidfd, functools.partial(self._leader_ended, ward))
        else:
            loop.call_later(_POLL_SECONDS, self._poll_leader, ward)
        return child

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
            self._endings.begin(ward, grace)

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
            self._endings.begin(ward, 0.0)
        if wards:
            await asyncio.wait([ward.gone for ward in wards])
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._endings.close()
        self._orphans.close()

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
        return sorted(self._orphans.unclaimed)

    def _wards_of(self, children: tuple[Child, ...]) -> list[Ward]:
        found = (self._wards.get(child.pid) for child in children)
        return [ward for ward in found if ward is not None and ward.child in children]

    # -- a leader has ended

    def _poll_leader(self, ward: Ward) -> None:
        if ward.child.exited():
            self._leader_ended(ward)
        else:
            asyncio.get_running_loop().call_later(_POLL_SECONDS, self._poll_leader, ward)

    def _leader_ended(self, ward: Ward) -> None:
        child = ward.child
        if child.pidfd >= 0:
            readers().remove(child.pidfd)
        child.has_exited = True
        if ward.exited is not None and not ward.exited.done():
            ward.exited.set_result(None)
        self._ended[ward] = None
        self._schedule_sweep()

    def _by_exact_look(self, ward: Ward) -> None:
        self._ended[ward] = None
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        """Look once for all leaders that end at about this moment."""
        if self._sweep_timer is None:
            loop = asyncio.get_running_loop()
            delay = self._pace.not_before - loop.time()
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
            found = self._orphans.claim(self._wards, self._ended)
        except Exception as error:  # noqa: BLE001 no descriptors, no memory, or a fault of ours
            # What cannot be seen is not gone.
            self._pace.look_failed(error)
            self._schedule_sweep()
            return
        self._pace.pause_after(time.monotonic() - began)
        if found.has_killed:
            self._pace.rest()
        if not found.is_certain:
            self._schedule_sweep()
            return
        ended, self._ended = self._ended, {}
        for ward in ended:
            is_alone = not any(owner is ward for owner in self._orphans.claimed.values())
            if is_alone and not (ward.group and members(ward.group)):
                self._finish(ward)
            elif ward.kill_at is None:
                self._endings.begin(ward, ward.child.stray_grace)

    def _finish(self, ward: Ward, survivors: tuple[int, ...] = ()) -> None:
        """Reap the leader and tell: nothing of the job is left."""
        child = ward.child
        if self._wards.get(child.pid) is not ward:
            return
        del self._wards[child.pid]
        strays = tuple(sorted(ward.strays))
        code = children.reap(child.pid)
        if code is None:  # state D: it cannot even be killed; reaped as an adopted one later
            self._orphans.claimed[child.pid] = ward
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
