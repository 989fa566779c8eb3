"""Any program that prints one JSON object a line.

The last object with `"type":"result"` is the verdict; without one, the last object of all is taken
for the result and the exit code decides. Keys that are understood in a result event:
`is_error` (or `status: "error"`), `error` (a text, or an object with `message`), `failure_kind`,
`result` or `text` (the answer), `structured`, `cost_usd`, `tokens` {`input, output, cacheRead,
cacheWrite`}, `model`, `turns`, `session_id`, `rate_limit_reset` (ISO 8601, or seconds since 1970).
"""

from __future__ import annotations

from typing import Any

from persona_pg.verdict.base import StructuredReader, judge_exit
from persona_pg.verdict.model import FAILURE_KINDS, Verdict, describe_end
from persona_pg.verdict.scan import JsonScanner
from persona_pg.verdict.values import (
    as_cost,
    as_count,
    as_dict,
    as_error,
    as_text,
    as_time,
    build_result,
    token_counts,
)

_RUNNERS_OWN = frozenset({"timeout", "idle_timeout", "cancelled", "orphaned"})


class JsonLinesReader(StructuredReader):
    """Reads the last object that counts."""

    def __init__(self) -> None:
        super().__init__()
        self._result: dict[str, Any] | None = None
        self._result_cut = False
        self._last: dict[str, Any] | None = None
        self._last_cut = False

    def _scan_stdout(self) -> JsonScanner:
        return JsonScanner(self._on_object)

    def _on_object(self, value: dict[str, Any], was_cut: bool) -> None:
        if value.get("type") == "result":
            self._result, self._result_cut = value, was_cut
        self._last, self._last_cut = value, was_cut

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        self._stdout.finish()
        if self._result is not None:
            return self._judge(self._result)
        kind = judge_exit(exit_code, signal)
        if self._last is None:
            if kind == "unknown":
                error = self.explain("no JSON object", exit_code, signal)
                return Verdict(outcome="failed", failure_kind=kind, error=error)
            return self.without_result(exit_code, signal)
        result = build_result(_answer(self._last), self._last, cut=self._last_cut)
        if kind is None:
            return Verdict(outcome="completed", result=result)
        error = as_error(_message(self._last.get("error"))) or describe_end(exit_code, signal)
        return Verdict(outcome="failed", failure_kind=kind, error=error, result=result)

    def _judge(self, event: dict[str, Any]) -> Verdict:
        counts = as_dict(event.get("tokens"))
        known: dict[str, Any] = {
            "result": build_result(_answer(event), event.get("structured"), cut=self._result_cut),
            "cost_usd": as_cost(event.get("cost_usd")),
            "tokens": token_counts(
                input=counts.get("input"),
                output=counts.get("output"),
                cacheRead=counts.get("cacheRead"),
                cacheWrite=counts.get("cacheWrite"),
            ),
            "model": as_text(event.get("model")),
            "turns": as_count(event.get("turns")),
            "session_id": as_text(event.get("session_id")),
        }
        if event.get("is_error") is not True and event.get("status") != "error":
            return Verdict(outcome="completed", **known)
        kind = event.get("failure_kind")
        if not isinstance(kind, str) or kind not in FAILURE_KINDS - _RUNNERS_OWN:
            kind = "unknown"
        is_limit = kind == "rate_limited"
        return Verdict(
            outcome="rate_limited" if is_limit else "failed",
            failure_kind=kind,
            error=as_error(_message(event.get("error"))) or "the program reported an error",
            rate_limit_reset=as_time(event.get("rate_limit_reset")) if is_limit else None,
            **known,
        )


def _answer(value: dict[str, Any]) -> str | None:
    for name in ("result", "text", "response"):
        if isinstance(value.get(name), str):
            return str(value[name])
    return None


def _message(error: Any) -> Any:
    return error.get("message") if isinstance(error, dict) else error
