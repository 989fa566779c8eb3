"""Reading what an agent program printed: how it ended, its answer, its cost.

    reader = open_reader("claude-stream-json")
    reader.feed("stdout", chunk)        # as the bytes come, both streams
    verdict = reader.finish(exit_code=0, signal=None)

The order that counts: the runner's own reason (timeout, cancel, lost lease), which the runner puts
before anything said here; then the last structured result event; then the exit code. No text is
ever searched for words that sound like an error: agents talk about errors all day.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from persona_pg.verdict.model import FAILURE_KINDS, Outcome, Reader, Stream, Verdict
from persona_pg.verdict.plain import PlainReader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FAILURE_KINDS",
    "OUTPUT_FORMATS",
    "Outcome",
    "Reader",
    "Stream",
    "Verdict",
    "open_reader",
]


def open_reader(output_format: str | None) -> Reader:
    """Return a reader for *output_format*; ValueError names the formats there are."""
    if output_format is None or output_format == "plain":
        return PlainReader()
    try:
        load = _READERS[output_format]
    except KeyError:
        known = ", ".join(OUTPUT_FORMATS)
        raise ValueError(f"output format {output_format!r} is none of: {known}") from None
    return load()


def _claude(*, multiline: bool) -> Reader:
    # Imported when wanted: a runner of plain commands stays small.
    from persona_pg.verdict.claude import ClaudeReader

    return ClaudeReader(multiline=multiline)


def _gemini_json() -> Reader:
    from persona_pg.verdict.gemini import GeminiJsonReader

    return GeminiJsonReader()


def _gemini_stream() -> Reader:
    from persona_pg.verdict.gemini import GeminiStreamReader

    return GeminiStreamReader()


def _codex() -> Reader:
    from persona_pg.verdict.codex import CodexReader

    return CodexReader()


def _jsonl() -> Reader:
    from persona_pg.verdict.jsonl import JsonLinesReader

    return JsonLinesReader()


_READERS: dict[str, Callable[[], Reader]] = {
    "plain": PlainReader,
    "claude-json": partial(_claude, multiline=True),
    "claude-stream-json": partial(_claude, multiline=False),
    "gemini-json": _gemini_json,
    "gemini-stream-json": _gemini_stream,
    "codex-jsonl": _codex,
    "jsonl": _jsonl,
}
OUTPUT_FORMATS: tuple[str, ...] = tuple(_READERS)
