"""Whose those processes are that the kernel has given us because their parents are gone.

Whoever outlives a leader is our child by then, or descends from such a child.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from persona_pg.runner import children, procfs, tree

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from persona_pg.runner.ward import Ward

# A zombie of ours without a token may be waited for by other code in this process.
_FOREIGN_ZOMBIE_SECONDS = 10.0


class Found(NamedTuple):
    """What a look at our children has shown."""

    # False: one of them has just ended. It may have left children of its own: look again.
    is_certain: bool
    # There were some of a job that was over, which had hidden.
    has_killed: bool = False


class Orphans:
    """Those we know, and whose they are."""

    def __init__(self, instance: int, *, walk: bool) -> None:
        self.is_subreaper = procfs.become_subreaper()
        # Whose each is, where that is known; the others are never signalled.
        self.claimed: dict[int, Ward] = {}
        self.unclaimed: set[int] = set()
        # Children that somebody else waits for.
        self.exempt: set[int] = set()
        self._instance = instance
        self._children = children.OwnChildren(walk=walk)
        self._zombies: dict[int, float] = {}

    def close(self) -> None:
        """Look no more."""
        self._children.close()

    def claim(self, wards: Mapping[int, Ward], ended: Container[Ward]) -> Found:
        """Find the owners of newly adopted processes, among the wards by their pids."""
        new = self._new(wards)
        if not new and self.is_subreaper:
            return Found(is_certain=True)
        snapshot = tree.Snapshot()
        owners = {
            process.pid: ward for ward in wards.values() for process in snapshot.members(ward.tree)
        }
        if not self.is_subreaper:  # nobody is adopted: the members themselves are what is left
            self.claimed = {pid: owner for pid, owner in owners.items() if owner in ended}
            return Found(is_certain=True)
        late = []
        is_certain = True
        for pid in new:
            process = snapshot.processes.get(pid)
            if process is None or not process.is_alive:
                is_certain = False
            elif pid in owners:
                self.claimed[pid] = owners[pid]
            elif procfs.instance_of(snapshot.tokens.get(pid)) == self._instance:
                late.append(tree.Tree(0, 0, snapshot.tokens[pid]))  # its job is over: it hid
                is_certain = False
            else:
                self.unclaimed.add(pid)
        if late:
            tree.kill_round(late)
        return Found(is_certain=is_certain, has_killed=bool(late))

    def _new(self, wards: Container[int]) -> list[int]:
        """Return adopted processes not examined yet; reap adopted zombies on the way."""
        while True:
            ours = self._children.read()
            self._forget_all_but(ours)
            new, reaped = [], False
            for pid in ours:
                if pid in wards or pid in self.exempt:
                    continue
                if children.has_exited(pid):
                    reaped |= self._reap_adopted(pid)
                elif pid not in self.unclaimed and pid not in self.claimed:
                    new.append(pid)
            # The children of one that has just ended may be missing from a walk that is not atomic
            if not reaped:
                return new

    def _forget_all_but(self, ours: list[int]) -> None:
        """Forget the others: a pid that is not our child any more may soon be anybody's."""
        if self.exempt or self.unclaimed or self._zombies:
            self.exempt.intersection_update(ours)
            self.unclaimed.intersection_update(ours)
            self._zombies = {pid: at for pid, at in self._zombies.items() if pid in ours}

    def _reap_adopted(self, pid: int) -> bool:
        """Reap it if it was a job's; give other code in this process time to do it otherwise."""
        is_ours = pid in self.claimed or pid in self.unclaimed
        if not is_ours and procfs.instance_of(procfs.read_token(pid)) != self._instance:
            now = procfs.boottime()
            if now - self._zombies.setdefault(pid, now) < _FOREIGN_ZOMBIE_SECONDS:
                return False
        with contextlib.suppress(ChildProcessError):
            children.reap(pid)
        self.claimed.pop(pid, None)
        return True
