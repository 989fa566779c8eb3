"""A child of the runner with what is being done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from persona_pg.runner import tree

if TYPE_CHECKING:
    import asyncio

    from persona_pg.runner.spawn import Child, Exit


class Usage(NamedTuple):
    """What all living processes of a job use together."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class Ward:
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
