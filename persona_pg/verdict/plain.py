"""Programs that only print text: the answer is the end of stdout, the exit code decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_pg.verdict.base import Tail, judge_exit
from persona_pg.verdict.model import Verdict, describe_end
from persona_pg.verdict.values import as_error, scrub_text

if TYPE_CHECKING:
    from persona_pg.verdict.model import Stream

STDOUT_TAIL = 64 * 1024
_STDERR_TAIL = 4096


class PlainReader:
    """Keeps the end of both streams, and nothing else."""

    def __init__(self) -> None:
        self._stdout = Tail(STDOUT_TAIL)
        self._stderr = Tail(_STDERR_TAIL)

    def feed(self, stream: Stream, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece of *stream*."""
        (self._stdout if stream == "stdout" else self._stderr).add(data)

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        text = scrub_text(self._stdout.text())
        result: dict[str, object] | None = {"text": text} if text else None
        if result is not None and self._stdout.is_cut:
            result["truncated"] = True
        kind = judge_exit(exit_code, signal)
        if kind is None:
            return Verdict(outcome="completed", result=result)
        error = describe_end(exit_code, signal)
        words = scrub_text(self._stderr.last_line())
        return Verdict(
            outcome="failed",
            failure_kind=kind,
            error=as_error(f"{error}: {words}" if words else error),
            result=result,
        )
