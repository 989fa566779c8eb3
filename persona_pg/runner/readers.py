"""Being told that descriptors can be read, at the price of one system call each.

Adding a reader to asyncio's loop and removing it again costs about 50 us, and each job has three.
So on Linux they are watched by an epoll of our own, which is the only reader that the loop sees.
"""

from __future__ import annotations

import asyncio
import select
import sys
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Readers] = (
    weakref.WeakKeyDictionary()
)


def readers() -> Readers:
    """Return those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = EpollReaders(loop) if sys.platform == "linux" else Readers(loop)
    return found


class Readers:
    """The loop's own ones: where there is no epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the loop itself: whoever keeps its readers must not keep it alive.
        self._loop_ref = weakref.ref(loop)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop_ref()
        assert loop is not None
        return loop

    def add(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever the descriptor can be read, until it is removed."""
        self._loop.add_reader(fd, callback)

    def remove(self, fd: int) -> None:
        """Call it no more; to be said before the descriptor is closed."""
        self._loop.remove_reader(fd)


class EpollReaders(Readers):
    """An epoll of our own, behind that of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._epoll = select.epoll()
        # Each in a list of its own: a number that was closed and opened again is another one.
        self._callbacks: dict[int, list[Callable[[], object]]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever the descriptor can be read, until it is removed."""
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = [callback]

    def remove(self, fd: int) -> None:
        """Call it no more; to be said before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _ready(self) -> None:
        ready = [(fd, self._callbacks.get(fd)) for fd, _ in self._epoll.poll(0)]
        for fd, entry in ready:
            if entry is None or self._callbacks.get(fd) is not entry:
                continue
            try:
                entry[0]()
            except Exception as error:  # noqa: BLE001 - the others are not to suffer from it
                context = {"message": "a reader failed", "exception": error}
                self._loop.call_exception_handler(context)
