"""What the readers of structured output share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona_pg.verdict.model import Verdict, describe_end, died_of_signal
from persona_pg.verdict.values import as_error

if TYPE_CHECKING:
    from persona_pg.verdict.model import Stream
    from persona_pg.verdict.scan import JsonScanner

_STDERR_TAIL = 4096


class StructuredReader:
    """Feeds stdout to a scanner and remembers the last words of stderr."""

    program = "the program"

    def __init__(self) -> None:
        self._stdout = self._scan_stdout()
        self._stderr_tail = Tail(_STDERR_TAIL)

    def _scan_stdout(self) -> JsonScanner:
        raise NotImplementedError

    def feed(self, stream: Stream, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece of *stream*."""
        if stream == "stdout":
            self._stdout.feed(bytes(data))
        else:
            self._stderr_tail.add(data)

    def without_result(self, exit_code: int | None, signal: int | None, **known: Any) -> Verdict:
        """Judge an end without a result event: by the exit code alone, and never as success."""
        kind = "bad_output" if exit_code == 0 and signal is None else "crashed"
        return Verdict(
            outcome="failed",
            failure_kind=kind,
            error=self.explain("no result", exit_code, signal),
            **known,
        )

    def explain(self, what: str, exit_code: int | None, signal: int | None) -> str:
        """Compose an error text: what, how it ended, and its last words."""
        why = ""
        if self._stdout.is_truncated:
            why = ", an event in its output is broken off"
        elif self._stdout.has_dropped:
            why = ", an event was too large to read"
        text = f"{self.program} gave {what}: {describe_end(exit_code, signal)}{why}"
        words = self._stderr_tail.last_line()
        return as_error(f"{text}: {words}" if words else text) or text


class Tail:
    """The last bytes of a stream, kept at the cost of a bounded copy a chunk."""

    __slots__ = ("_kept", "_limit", "_spare", "is_cut")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spare = limit + limit // 2
        self._kept = bytearray()
        self.is_cut = False

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        size = len(data)
        if size >= self._limit:
            self.is_cut = self.is_cut or size > self._limit or bool(self._kept)
            self._kept[:] = data[size - self._limit :]
            return
        self._kept += data
        if len(self._kept) > self._spare:  # so that the front is cut once in many chunks only
            self.is_cut = True
            del self._kept[: -self._limit]

    def text(self) -> str:
        """Return the tail, beginning with a whole character."""
        kept = self._kept
        if len(kept) > self._limit:
            self.is_cut = True
            del kept[: -self._limit]
        start = 0
        if self.is_cut:
            while start < min(3, len(kept)) and kept[start] & 0xC0 == 0x80:
                start += 1
        return kept[start:].decode("utf-8", "replace")

    def last_line(self) -> str:
        """Return the last line that says something, and not just closes a brace."""
        for line in reversed(self.text().splitlines()):
            if any(character.isalnum() for character in line):
                return line.strip()
        return ""


def judge_exit(exit_code: int | None, signal: int | None) -> str | None:
    """Return the failure kind of a program that speaks by its exit code alone."""
    if exit_code == 0 and signal is None:
        return None
    return "crashed" if died_of_signal(exit_code, signal) else "unknown"
