"""Codex: `codex exec --json`.

Seen in version 0.169, and the reason for what is done here:

- The last `turn.completed` or `turn.failed` is the verdict. An `error` event alone is often only
  a notice ("Reconnecting... 2/5"); it decides where it is last and the exit code is not 0.
- The answer is the last `agent_message`. `input_tokens` include what came from a cache.
- Errors have no code, only a message for people. What is read from it are the two forms in which
  the program itself quotes the server: its HTTP status at the end of a sentence of its own, and
  the body of the answer as JSON (`usage_limit_reached`, `resets_at`, `resets_in_seconds`). Only
  messages of error events are looked at, never what the model or a tool said.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from persona_pg.verdict.base import StructuredReader
from persona_pg.verdict.model import Verdict
from persona_pg.verdict.scan import JsonScanner
from persona_pg.verdict.values import (
    as_count,
    as_dict,
    as_error,
    as_text,
    as_time,
    build_result,
    kind_of_status,
    token_counts,
)

_STATUS = re.compile(r"\b(?:last status: |unexpected status )([1-5]\d\d)\b")
# How the program words the errors for which it shows neither status nor body.
_SENTENCES = (
    ("You've hit your usage limit", "rate_limited"),
    ("Quota exceeded", "billing"),
    ("Your workspace is out of credits", "billing"),
    ("Selected model is at capacity", "overloaded"),
    ("We're currently experiencing high demand", "overloaded"),  # any 500
    ("stream disconnected before completion", "overloaded"),
    ("session budget exceeded", "budget"),
)
_BODY_KINDS = {
    "usage_limit_reached": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "insufficient_quota": "billing",
    "usage_not_included": "billing",
    "billing_hard_limit_reached": "billing",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "token_expired": "auth",
    "model_not_found": "not_found",
    "server_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "overloaded_error": "overloaded",
}
_LONGEST_WAIT = 366 * 86400


class CodexReader(StructuredReader):
    """Reads the events of one `codex exec`."""

    program = "codex"

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[str, Any] | None = None  # the last turn.completed or turn.failed
        self._late_error: str | None = None  # of the last error event after that
        self._session_id: str | None = None
        self._answer: str | None = None
        self._was_cut = False
        self._turns = 0
        self._tokens: dict[str, int] = {}

    def _scan_stdout(self) -> JsonScanner:
        return JsonScanner(
            self._on_event, skip=(b'{"type":"item.started"', b'{"type":"item.updated"')
        )

    def _on_event(self, event: dict[str, Any], was_cut: bool) -> None:
        kind = event.get("type")
        if kind in ("turn.completed", "turn.failed"):
            self._ended, self._late_error = event, None
            self._turns += 1
            self._tokens = _tokens(event.get("usage")) or self._tokens
        elif kind == "item.completed":
            item = as_dict(event.get("item"))
            if item.get("type") == "agent_message" and isinstance(item.get("text"), str):
                self._answer, self._was_cut = item["text"], was_cut
        elif kind == "error":
            self._late_error = as_text(event.get("message"))
        elif kind == "thread.started":
            self._session_id = as_text(event.get("thread_id"))

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        self._stdout.finish()
        known: dict[str, Any] = {
            "session_id": self._session_id,
            "tokens": self._tokens,
            "turns": self._turns or None,
            "result": build_result(self._answer, _structured(self._answer), cut=self._was_cut),
        }
        ended = self._ended or {}
        is_fatal = self._late_error is not None and exit_code not in (0, None)
        if ended.get("type") == "turn.completed" and not is_fatal:
            return Verdict(outcome="completed", **known)
        if ended.get("type") == "turn.failed" or is_fatal:
            message = as_text(as_dict(ended.get("error")).get("message"))
            return _failed((self._late_error if is_fatal else None) or message, **known)
        return self.without_result(exit_code, signal, **known)


def _failed(message: str | None, **known: Any) -> Verdict:
    kind, reset, wait = _read_message(message or "")
    is_limit = kind == "rate_limited"
    return Verdict(
        outcome="rate_limited" if is_limit else "failed",
        failure_kind=kind,
        error=as_error(message) or "codex: the turn failed",
        rate_limit_reset=reset if is_limit else None,
        rate_limit_wait=wait if is_limit else None,
        **known,
    )


def _read_message(message: str) -> tuple[str, datetime | None, timedelta | None]:
    """Return the kind of an error, and when or after how long its limit ends."""
    brace = message.find("{")
    own_words = message if brace < 0 else message[:brace]
    body = _body(message, brace)
    reset = as_time(body.get("resets_at"))
    seconds = as_count(body.get("resets_in_seconds"))
    wait = None
    if seconds is not None and seconds <= _LONGEST_WAIT:
        wait = timedelta(seconds=seconds)
        reset = reset or datetime.now(UTC) + wait

    kind = next((_BODY_KINDS[text] for text in _codes(body) if text in _BODY_KINDS), None)
    if kind is None:
        straight = message.replace("\u2019", "'")
        kind = next((kind for start, kind in _SENTENCES if straight.startswith(start)), None)
    if kind is None:
        status = _STATUS.search(own_words)
        kind = kind_of_status(int(status[1])) if status else None
    return kind or "unknown", reset, wait


def _body(message: str, brace: int) -> dict[str, Any]:
    """Return the error object of the server's answer, where the message quotes it."""
    if brace < 0:
        return {}
    try:
        value, _end = json.JSONDecoder().raw_decode(message, brace)
    except (ValueError, RecursionError):
        return {}
    body = as_dict(value)
    return as_dict(body.get("error")) or body


def _codes(body: dict[str, Any]) -> list[str]:
    return [text for text in (body.get("code"), body.get("type")) if isinstance(text, str)]


def _structured(answer: str | None) -> Any:
    """Return the answer as an object, which it is under `--output-schema`."""
    if answer is None or not answer.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(answer, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _tokens(usage: Any) -> dict[str, int]:
    usage = as_dict(usage)
    if not usage:
        return {}
    cached = as_count(usage.get("cached_input_tokens")) or 0
    written = as_count(usage.get("cache_write_input_tokens")) or 0
    sent = as_count(usage.get("input_tokens")) or 0
    return token_counts(
        input=max(0, sent - cached),
        output=usage.get("output_tokens"),
        cacheRead=cached,
        cacheWrite=written,
    )
