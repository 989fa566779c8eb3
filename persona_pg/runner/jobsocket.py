"""The unix socket of one execution: who may speak, how much, and in which form.

A request is one line of JSON, an answer too.  Only processes of the job may speak, by what the
kernel says of the other end.  That is no wall between jobs of one Unix user: they could trace each
other anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from persona_pg.runner.readers import readers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BACKLOG = 16
_CONNECTIONS = 40
# One message, and all that is not answered yet together.
_LONGEST = 4 << 20
_BUFFERED = 8 << 20
_CHUNK = 65536
_DEEPEST = 100
_SEND_SECONDS = 10.0
_REST_SECONDS = 0.5

Answer = dict[str, Any]


def failure(code: str, message: str) -> Answer:
    """Return the answer that refuses a request."""
    error = {"code": code, "message": message, "retryable": code == "busy", "detail": {}}
    return {"ok": False, "error": error}


_DENIED = failure("denied", "only processes of this job may use its socket")


def _nobody(_pid: int) -> bool:
    return False


class JobSocket:
    """Listens for the processes of one job at a time; made once, used for one after the other.

    Making a socket and removing it takes longer than many a job, and few jobs ever speak.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._is_member: Callable[[int], bool] = _nobody
        self._answer: Callable[[Answer], Awaitable[Answer]] | None = None
        self._loop = asyncio.get_running_loop()
        self._readers = readers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._buffered = 0
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.setblocking(False)
            self._listener.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101 - this is on the way of a job's start
            self._listener.listen(_BACKLOG)
        except BaseException:
            self._listener.close()
            raise
        self._fd = self._listener.fileno()
        self._readers.add(self._fd, self._accept)

    def begin(
        self, is_member: Callable[[int], bool], answer: Callable[[Answer], Awaitable[Answer]]
    ) -> None:
        """Listen for the processes of a job that begins."""
        self._is_member = is_member
        self._answer = answer

    def end(self) -> None:
        """Hang up: the job has ended.  Whoever still knocks is turned away."""
        self._is_member = _nobody
        self._answer = None
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """Listen no more."""
        self.end()
        if self._listener.fileno() >= 0:
            self._readers.remove(self._fd)
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108 - as above

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()[0]
        except BlockingIOError:
            return
        except OSError:
            # No descriptors left, most likely: it stays in the backlog for a moment.
            self._readers.remove(self._fd)
            self._loop.call_later(_REST_SECONDS, self._accept_again)
            return
        connection.setblocking(False)
        # For the job of this moment: it may be another one's turn when this runs.
        serving = self._serve(connection, self._is_member, self._answer)
        task = self._loop.create_task(serving)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: connection.close())  # also where it never began

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._readers.add(self._fd, self._accept)

    async def _serve(
        self,
        connection: socket.socket,
        is_member: Callable[[int], bool],
        answer: Callable[[Answer], Awaitable[Answer]] | None,
    ) -> None:
        with connection, contextlib.suppress(OSError, TimeoutError):
            refusal = self._refusal(connection, is_member)
            if refusal is not None or answer is None:
                await self._send(connection, refusal or _DENIED)
                return
            buffer = bytearray()
            while (line := await self._line(connection, buffer)) is not None:
                said = await self._answered(connection, line, answer)
                if said is None:
                    return
                await self._send(connection, said)

    async def _line(self, connection: socket.socket, buffer: bytearray) -> bytes | None:
        """Return the next line; None: there is none, or it is too long."""
        looked = counted = 0
        try:
            while (at := buffer.find(b"\n", looked)) < 0:
                looked = len(buffer)
                self._buffered += looked - counted
                counted = looked
                if looked > _LONGEST or self._buffered > _BUFFERED:
                    await self._send(connection, failure("invalid", "the request is too long"))
                    return None
                data = await self._loop.sock_recv(connection, _CHUNK)
                if not data:
                    return None
                buffer += data
        finally:
            self._buffered -= counted
        line = bytes(buffer[:at])
        del buffer[: at + 1]
        return line

    def _refusal(
        self, connection: socket.socket, is_member: Callable[[int], bool]
    ) -> Answer | None:
        pid, uid = _peer(connection)
        if uid != os.getuid() or not is_member(pid):
            return _DENIED
        if len(self._tasks) > _CONNECTIONS:
            return failure("busy", f"{_CONNECTIONS} requests of this job are under way")
        return None

    async def _answered(
        self,
        connection: socket.socket,
        line: bytes,
        answer: Callable[[Answer], Awaitable[Answer]],
    ) -> Answer | None:
        """Answer a request, unless whoever made it goes away meanwhile: None."""
        try:
            request = json.loads(line.decode("utf-8", "replace"))
            if not _is_plain(request):
                return failure("invalid", f"a request has {_DEEPEST} levels at most, and no NaN")
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return failure("invalid", "a request is a JSON object with a command, in one line")
        if not isinstance(request.setdefault("body", {}), dict):
            return failure("invalid", "the body of a request is a JSON object")
        work = asyncio.ensure_future(answer(request))
        gone = asyncio.ensure_future(_hung_up(connection))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            for future in (work, gone):
                if not future.done():
                    future.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await future

    async def _send(self, connection: socket.socket, answer: Answer) -> None:
        data = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        async with asyncio.timeout(_SEND_SECONDS):
            await self._loop.sock_sendall(connection, data)


def _is_plain(value: Any) -> bool:
    """Tell whether the database takes it as JSON, and nobody who walks through it falls."""
    waiting = [(value, _DEEPEST)]
    while waiting:
        one, levels = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return False
        if isinstance(one, dict | list):
            if levels == 0:
                return False
            inner = one.values() if isinstance(one, dict) else one
            waiting.extend((item, levels - 1) for item in inner)
    return True


async def _hung_up(connection: socket.socket) -> None:
    """Return when the other end is closed, taking nothing that it has sent."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        try:
            data = connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        loop.remove_reader(connection)
        if not data and not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, look)
    try:
        await readable
    finally:
        if connection.fileno() >= 0:
            loop.remove_reader(connection)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end, as the kernel knows them."""
    if sys.platform == "darwin":
        # LOCAL_PEERPID of SOL_LOCAL; that it is our user's is what the mode of the socket says.
        packed = connection.getsockopt(0, 2, struct.calcsize("i"))
        return struct.unpack("i", packed)[0], os.getuid()
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", packed)
    return pid, uid
