"""Gemini CLI: `-o json` (one object over many lines) and `-o stream-json`.

Seen in version 0.61, and the reason for what is done here:

- In json mode an error is an object on *stderr*, behind `[ERROR] `, and stdout is empty.
- SIGTERM, SIGINT and SIGHUP end in exit code 0: no result then means failure.
- The exit code is the status of the API, which the kernel cuts to 8 bits: 429 becomes 173.
- There is no price. `input` of its token counts leaves out what came from a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona_pg.verdict.base import StructuredReader
from persona_pg.verdict.model import TEXT_LIMIT, Verdict
from persona_pg.verdict.scan import JsonScanner
from persona_pg.verdict.values import (
    add_tokens,
    as_count,
    as_dict,
    as_error,
    as_text,
    build_result,
    kind_of_status,
    token_counts,
)

if TYPE_CHECKING:
    from persona_pg.verdict.model import Stream

_EXIT_KINDS = {
    41: "auth",
    42: "unknown",  # the input was refused
    44: "unknown",  # sandbox
    52: "unknown",  # configuration
    53: "max_turns",
    54: "tool_error",
    55: "auth",  # the folder is not trusted: a person has to say so
    130: "crashed",  # interrupted from outside, not by us
}
_STATUSES = (400, 401, 402, 403, 404, 408, 429, 500, 502, 503, 504, 529)
_EXIT_KINDS |= {status % 256: kind_of_status(status) or "unknown" for status in _STATUSES}

_TYPE_KINDS = {
    "FatalAuthenticationError": "auth",
    "FatalUntrustedWorkspaceError": "auth",
    "FatalTurnLimitedError": "max_turns",
    "FatalToolExecutionError": "tool_error",
    "FatalCancellationError": "crashed",
    "TerminalQuotaError": "rate_limited",
    "RetryableQuotaError": "rate_limited",
    "ModelNotFoundError": "not_found",
}
_MIN_API_STATUS = 400


class GeminiJsonReader(StructuredReader):
    """Reads `-o json`: the answer from stdout, or else the error from stderr."""

    program = "gemini"

    def __init__(self) -> None:
        super().__init__()
        self._stderr = JsonScanner(self._on_error_object, multiline=True, prefix=b"[ERROR]")
        self._answer: dict[str, Any] | None = None
        self._was_cut = False
        self._error: dict[str, Any] | None = None
        self._session_id: str | None = None

    def _scan_stdout(self) -> JsonScanner:
        return JsonScanner(self._on_answer, multiline=True)

    def _on_answer(self, value: dict[str, Any], was_cut: bool) -> None:
        if "response" in value or isinstance(value.get("error"), dict):
            self._answer, self._was_cut = value, was_cut
            self._session_id = as_text(value.get("session_id")) or self._session_id

    def _on_error_object(self, value: dict[str, Any], _was_cut: bool) -> None:
        # Servers started by the program also write JSON to this stream: take its own shape only.
        error = value.get("error")
        is_own = value.keys() <= {"session_id", "error", "warnings", "stats", "response"}
        if is_own and isinstance(error, dict) and {"type", "message"} <= error.keys():
            self._error = error
            self._session_id = as_text(value.get("session_id")) or self._session_id

    def feed(self, stream: Stream, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece of *stream*."""
        super().feed(stream, data)
        if stream == "stderr":
            self._stderr.feed(bytes(data))

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        self._stdout.finish()
        self._stderr.finish()
        answer = self._answer or {}
        error = as_dict(answer.get("error")) or self._error
        if error and not isinstance(answer.get("response"), str):
            return _failed(error, exit_code, session_id=self._session_id)
        if not answer:
            return _no_result(self, exit_code, signal, session_id=self._session_id)
        models = as_dict(as_dict(answer.get("stats")).get("models"))
        known: dict[str, Any] = {
            "tokens": _json_tokens(models),
            "model": _busiest(models),
            "session_id": self._session_id,
        }
        if as_dict(answer.get("error")):
            return _failed(as_dict(answer["error"]), exit_code, **known)
        result = build_result(answer.get("response"), cut=self._was_cut)
        return Verdict(outcome="completed", result=result, **known)


class GeminiStreamReader(StructuredReader):
    """Reads `-o stream-json`: the pieces of the answer, then the result event."""

    program = "gemini"

    def __init__(self) -> None:
        super().__init__()
        self._result: dict[str, Any] | None = None
        self._session_id: str | None = None
        self._model: str | None = None
        self._pieces: list[str] = []
        self._length = 0
        self._was_cut = False
        self._error: str | None = None  # of the last error event

    def _scan_stdout(self) -> JsonScanner:
        skip = (b'{"type":"tool_use"', b'{"type":"tool_result"')
        return JsonScanner(self._on_event, skip=skip)

    def _on_event(self, event: dict[str, Any], was_cut: bool) -> None:
        kind = event.get("type")
        if kind == "result":
            self._result = event
        elif kind == "init":
            self._session_id = as_text(event.get("session_id"))
            self._model = as_text(event.get("model"))
        elif kind == "message" and event.get("role") == "assistant":
            self._was_cut = self._was_cut or was_cut
            self._add(event.get("content"), is_piece=event.get("delta") is True)
        elif kind == "error":
            self._error = as_error(event.get("message"))

    def _add(self, content: Any, *, is_piece: bool) -> None:
        if not isinstance(content, str):
            return
        if not is_piece:  # a whole message stands for the pieces before it
            self._pieces, self._length = [], 0
        room = TEXT_LIMIT - self._length
        self._was_cut = self._was_cut or len(content) > room
        if room > 0:
            self._pieces.append(content[:room])
            self._length += len(content)
        if len(self._pieces) > 1000:
            self._pieces = ["".join(self._pieces)]

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        self._stdout.finish()
        known: dict[str, Any] = {"model": self._model, "session_id": self._session_id}
        text = "".join(self._pieces)
        if self._result is None:
            return _no_result(self, exit_code, signal, **known)
        known["tokens"] = _stream_tokens(self._result.get("stats"))
        if self._result.get("status") == "success":
            result = build_result(text, cut=self._was_cut)
            return Verdict(outcome="completed", result=result, **known)
        error = as_dict(self._result.get("error")) or {"message": self._error}
        return _failed(error, exit_code, result=build_result(text or None), **known)


def _no_result(
    reader: StructuredReader,
    exit_code: int | None,
    signal: int | None,
    **known: Any,
) -> Verdict:
    """Judge an end without a result: this program's exit codes say more than most."""
    kind = _EXIT_KINDS.get(exit_code or 0) if signal is None else None
    if kind is None:
        kind = "bad_output" if exit_code == 0 and signal is None else "crashed"
    return Verdict(
        outcome="rate_limited" if kind == "rate_limited" else "failed",
        failure_kind=kind,
        error=reader.explain("no result", exit_code, signal),
        **known,
    )


def _failed(error: dict[str, Any], exit_code: int | None, **known: Any) -> Verdict:
    """Judge by the error object: its type, its code, then the exit code it led to."""
    error_type, code = error.get("type"), as_count(error.get("code"))
    kind = _TYPE_KINDS.get(error_type) if isinstance(error_type, str) else None
    if kind is None and code is not None:
        kind = kind_of_status(code) if code >= _MIN_API_STATUS else _EXIT_KINDS.get(code)
    if kind is None and exit_code:
        kind = _EXIT_KINDS.get(exit_code)
    kind = kind or "unknown"
    return Verdict(
        outcome="rate_limited" if kind == "rate_limited" else "failed",
        failure_kind=kind,
        error=as_error(error.get("message")) or f"gemini ended with {error_type or 'an error'}",
        **known,
    )


def _json_tokens(models: dict[str, Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for model in models.values():
        counts = as_dict(as_dict(model).get("tokens"))
        answered = sum(as_count(counts.get(name)) or 0 for name in ("candidates", "thoughts"))
        cached = as_count(counts.get("cached")) or 0
        sent = as_count(counts.get("input"))
        if sent is None:
            sent = max(0, (as_count(counts.get("prompt")) or 0) - cached)
        total = add_tokens(
            total, token_counts(input=sent, output=answered, cacheRead=cached, cacheWrite=0)
        )
    return total


def _stream_tokens(stats: Any) -> dict[str, int]:
    stats = as_dict(stats)
    if not stats:
        return {}
    cached = as_count(stats.get("cached")) or 0
    sent = as_count(stats.get("input"))
    if sent is None:
        sent = max(0, (as_count(stats.get("input_tokens")) or 0) - cached)
    return token_counts(
        input=sent, output=stats.get("output_tokens"), cacheRead=cached, cacheWrite=0
    )


def _busiest(models: dict[str, Any]) -> str | None:
    totals = {
        name: as_count(as_dict(as_dict(model).get("tokens")).get("total")) or 0
        for name, model in models.items()
    }
    return as_text(max(totals, key=lambda name: totals[name])) if totals else None
