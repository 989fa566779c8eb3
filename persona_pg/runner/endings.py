"""Ending trees of processes: round after round, until nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING

from persona_pg.runner import procfs, tree
from persona_pg.runner.pace import LOOK_AGAIN_SECONDS
from persona_pg.runner.readers import readers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from persona_pg.runner.control import Control
    from persona_pg.runner.pace import Pace
    from persona_pg.runner.ward import Ward

_KILLING_SECONDS = 5.0
_WATCHED_AT_MOST = 256


class Endings:
    """All trees that are being ended share their looks at /proc."""

    def __init__(
        self,
        wards: Mapping[int, Ward],
        control: Control,
        pace: Pace,
        *,
        on_empty: Callable[[Ward], None],
        on_survived: Callable[[Ward, tuple[int, ...]], None],
    ) -> None:
        """*on_empty*: nothing of it is left; *on_survived*: these cannot be killed."""
        self._wards = wards
        self._control = control
        self._pace = pace
        self._on_empty = on_empty
        self._on_survived = on_survived
        self._watched: dict[int, int] = {}
        self._round_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Give the descriptors back."""
        if self._round_timer is not None:
            self._round_timer.cancel()
        for pid in list(self._watched):
            self._unwatch(pid)

    def begin(self, ward: Ward, grace: float) -> None:
        """End its whole tree: SIGTERM, so many seconds, SIGKILL; a later call may shorten it."""
        kill_at = asyncio.get_running_loop().time() + grace
        if ward.kill_at is None or kill_at < ward.kill_at:
            ward.kill_at = kill_at
            self._schedule_round(0.0)

    def _schedule_round(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        at = max(loop.time() + delay, self._pace.not_before)
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
            self._pace.look_failed(error)
        else:
            self._pace.pause_after(loop.time() - began)
        left = [ward.kill_at for ward in self._wards.values() if ward.kill_at is not None]
        if left:
            until_kill = min(left) - loop.time()
            wait = until_kill if 0 < until_kill < LOOK_AGAIN_SECONDS else LOOK_AGAIN_SECONDS
            self._schedule_round(wait)
        else:
            for pid in list(self._watched):
                self._unwatch(pid)

    def _end_some(self, ending: list[Ward], now: float) -> None:
        is_urgent = any(ward.kill_at is not None and now >= ward.kill_at for ward in ending)
        with tree.urgently() if is_urgent else contextlib.nullcontext():
            snapshot = tree.Snapshot()
        late = []
        for ward in ending:
            members = snapshot.members(ward.tree)
            if ward.child.has_exited:
                ward.strays.update(process.pid for process in members)
            if not members and ward.child.exited():
                self._on_empty(ward)
            elif ward.kill_at is not None and now >= ward.kill_at:
                ward.killed_at = ward.killed_at or now
                if now - ward.killed_at > _KILLING_SECONDS:
                    self._on_survived(ward, tuple(sorted(process.pid for process in members)))
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
