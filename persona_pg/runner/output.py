"""What a job prints: both pipes drained fairly, with bounded memory, whatever it is.

A tap sees every byte.  Lines are made only of the first *limit_bytes* of each stream; what follows
is read and dropped at full speed, so that the job never blocks on a full pipe.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import functools
import os
import time
from typing import TYPE_CHECKING, Literal, Protocol

from persona_pg.runner import procfs
from persona_pg.runner.readers import readers

if TYPE_CHECKING:
    from collections.abc import Callable

    class _HasPipes(Protocol):
        stdout_fd: int
        stderr_fd: int


Stream = Literal["stdout", "stderr"]

_CHUNK = 65536
# Longer lines are told in pieces.
_PIECE = 16384
# So many chunks for one job, then the others have their turn.
_CHUNKS_PER_TURN = 4
# A pipe that proves busy is made bigger, once: fewer wake-ups for both sides.
_BUSY_BYTES = 1 << 20
_BUSY_PIPE = 1 << 18
# After the job is gone: no more than a pipe can hold is still to be read.
_LEFT_IN_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031

# One buffer for all: it is emptied before anything else can run.
_buffer = bytearray(_CHUNK)
_view = memoryview(_buffer)
_vector = [_view]


class _Lines:
    """Bytes of one stream into lines of text, in pieces of a bounded size."""

    __slots__ = ("_decoder", "_emit", "_has_return", "_text")

    def __init__(self, emit: Callable[[str, bool], None]) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._emit = emit
        self._text = ""
        self._has_return = False

    def feed(self, data: memoryview, *, final: bool = False) -> None:
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # PostgreSQL's text holds no NUL; the decoder itself lets no lone surrogate through.
        text = self._decoder.decode(data, final).replace("\0", "\N{REPLACEMENT CHARACTER}")
        if not text:
            return
        *complete, rest = text.split("\n")
        if complete:
            complete[0] = self._text + complete[0]
            self._text = ""
            for line in complete:
                self._line(line)
        self._text += rest
        if "\r" in rest and (kept := _last_written(self._text)) is not None:
            self._text = kept
        if len(self._text) > _PIECE:
            self._text = self._pieces(self._text)

    def _line(self, line: str) -> None:
        if "\r" in line:
            line = (_last_written(line) or line).rstrip("\r")
        if len(line) > _PIECE:
            line = self._pieces(line)
        self._emit(line, False)

    def _pieces(self, text: str) -> str:
        """Tell all but the last piece of a long line."""
        at = 0
        while len(text) - at > _PIECE:
            self._emit(text[at : at + _PIECE], True)
            at += _PIECE
        return text[at:]

    def flush(self, *, is_partial: bool) -> None:
        """Tell what stands without its newline."""
        text = self._text.rstrip("\r")
        self._text = ""
        if text:
            self._emit(text, is_partial)

    def end(self) -> None:
        if self._decoder is not None:
            self.feed(_view[:0], final=True)
            self._decoder = None
        self.flush(is_partial=False)


def _last_written(text: str) -> str | None:
    """Of a line that is written over and over (a progress bar), keep what a person would see."""
    kept = text.rstrip("\r")
    at = kept.rfind("\r")
    return None if at < 0 else text[at + 1 :]


class _Pipe:
    __slots__ = ("discarded", "fd", "is_watched", "lines", "name", "total")

    def __init__(self, name: Stream, fd: int, lines: _Lines) -> None:
        self.name: Stream = name
        self.fd = fd
        self.lines = lines
        self.total = 0
        self.discarded = 0
        self.is_watched = False


class OutputPump:
    """Reads both streams of a child until they end, or until the child is gone."""

    def __init__(
        self,
        child: _HasPipes,
        *,
        limit_bytes: int,
        on_line: Callable[[Stream, str, bool], None],
        on_bytes: Callable[[Stream, memoryview], None] | None = None,
        on_notice: Callable[[Stream, str, str], None] | None = None,
    ) -> None:
        self._limit = limit_bytes
        self._on_line = on_line
        self._on_bytes = on_bytes
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] | None = None
        self._is_paused = False
        # On a clock that stands still while the machine sleeps: that silence is not the job's.
        self.last_output_at = time.monotonic()
        self._pipes = (
            _Pipe("stdout", child.stdout_fd, _Lines(lambda t, p: on_line("stdout", t, p))),
            _Pipe("stderr", child.stderr_fd, _Lines(lambda t, p: on_line("stderr", t, p))),
        )
        self._watch()

    @property
    def total(self) -> dict[Stream, int]:
        """Bytes read so far."""
        return {pipe.name: pipe.total for pipe in self._pipes}

    @property
    def discarded(self) -> dict[Stream, int]:
        """Bytes beyond the limit."""
        return {pipe.name: pipe.discarded for pipe in self._pipes}

    @property
    def is_ended(self) -> bool:
        """Whether both streams are closed."""
        return all(pipe.fd < 0 for pipe in self._pipes)

    @property
    def is_paused(self) -> bool:
        """Whether reading is suspended by `pause`."""
        return self._is_paused

    def pause(self) -> None:
        """Stop reading: the job will block when its pipes are full."""
        self._is_paused = True
        for pipe in self._pipes:
            self._unwatch(pipe)

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._watch()

    def flush_partial(self) -> None:
        """Tell what stands without a newline: a question, a progress bar."""
        for pipe in self._pipes:
            pipe.lines.flush(is_partial=True)

    async def finish(self, grace: float = 1.0) -> None:
        """Wait for the end of both streams, at most *grace* seconds, once the child is gone.

        Somebody who is not the job's may hold the pipes for ever.  What is in them is still read.
        """
        if not self.is_ended and not self._is_paused:
            self._ended = self._loop.create_future()
            timer = self._loop.call_later(grace, _wake, self._ended)
            try:
                await self._ended
            finally:
                timer.cancel()
                self._ended = None
        for pipe in self._pipes:
            left = _LEFT_IN_PIPE
            while pipe.fd >= 0 and left > 0 and (count := self._read_chunk(pipe)):
                left -= count
        self.close()

    def close(self) -> None:
        """End at once: the last lines are told, nothing more is read."""
        for pipe in self._pipes:
            self._end(pipe)

    def _watch(self) -> None:
        for pipe in self._pipes:
            if pipe.fd >= 0 and not pipe.is_watched and not self._is_paused:
                readers().add(pipe.fd, functools.partial(self._readable, pipe))
                pipe.is_watched = True

    def _unwatch(self, pipe: _Pipe) -> None:
        if pipe.is_watched:
            readers().remove(pipe.fd)
            pipe.is_watched = False

    def _readable(self, pipe: _Pipe) -> None:
        for _ in range(_CHUNKS_PER_TURN):
            if self._read_chunk(pipe) < _CHUNK or self._is_paused:
                return

    def _read_chunk(self, pipe: _Pipe) -> int:
        """Read once; 0: there is nothing now, or never again."""
        try:
            count = os.readv(pipe.fd, _vector)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            count = 0
        if count == 0:
            self._end(pipe)
            if self._ended is not None and self.is_ended:
                _wake(self._ended)
            return 0
        self.last_output_at = time.monotonic()
        if self._on_bytes is not None:
            self._on_bytes(pipe.name, _view[:count])
        self._tell(pipe, count)
        return count

    def _tell(self, pipe: _Pipe, count: int) -> None:
        """Make lines of what has been read, as far as the limit allows."""
        before = pipe.total
        pipe.total = after = before + count
        if before < self._limit:
            pipe.lines.feed(_view[: min(count, self._limit - before)])
        if after > self._limit:
            if not pipe.discarded:
                pipe.lines.end()
                self._notice(
                    pipe, "warn", f"{pipe.name} is cut here: more than {self._limit} bytes"
                )
            pipe.discarded = after - self._limit
        if before < _BUSY_BYTES <= after:
            _enlarge(pipe.fd)

    def _end(self, pipe: _Pipe) -> None:
        if pipe.fd < 0:
            return
        self._unwatch(pipe)
        os.close(pipe.fd)
        pipe.fd = -1
        pipe.lines.end()
        if pipe.discarded:
            self._notice(pipe, "info", f"{pipe.discarded} bytes of {pipe.name} were discarded")

    def _notice(self, pipe: _Pipe, level: str, message: str) -> None:
        if self._on_notice is not None:
            self._on_notice(pipe.name, level, message)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _enlarge(fd: int) -> None:
    if procfs.LINUX:
        import fcntl

        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _BUSY_PIPE)
