"""Claude Code: `--output-format json` (one object, or an array of all events) and `stream-json`.

Seen in versions 2.1.x, and the reason for what is done here:

- An API error comes as `"subtype":"success","is_error":true,"api_error_status":429`, with exit
  code 1 or 0 depending on the version: only the event tells.
- Limits have the subtypes `error_max_turns`, `error_max_budget_usd`; `errors` may be empty.
- `total_cost_usd` covers the whole conversation after `--resume`, `usage` this process only.
- The kind of an API error is typed in the `assistant` event before the result (`error`), and the
  end of a rate limit in `rate_limit_event`. Both are in stream-json only. An event `api_retry` is
  the program's own affair and decides nothing while a result follows.
- SIGTERM leaves no result event, and in some versions exit code 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona_pg.verdict.base import StructuredReader
from persona_pg.verdict.model import Verdict
from persona_pg.verdict.scan import JsonScanner
from persona_pg.verdict.values import (
    add_tokens,
    as_cost,
    as_count,
    as_dict,
    as_error,
    as_list,
    as_text,
    as_time,
    build_result,
    denials,
    kind_of_status,
    token_counts,
)

if TYPE_CHECKING:
    from datetime import datetime

# `error` of an assistant event.
_ERROR_KINDS = {
    "authentication_failed": "auth",
    "oauth_org_not_allowed": "auth",
    "account_on_hold": "billing",
    "billing_error": "billing",
    "rate_limit": "rate_limited",
    "overloaded": "overloaded",
    "server_error": "overloaded",
    "model_not_found": "not_found",
    "max_output_tokens": "bad_output",
}
_SUBTYPE_KINDS = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "budget",
    "error_max_structured_output_retries": "bad_output",
}
_TERMINAL_KINDS = {
    "max_turns": "max_turns",
    "aborted_streaming": "crashed",  # interrupted from outside, not by us
    "aborted_tools": "crashed",
}


class ClaudeReader(StructuredReader):
    """Reads either format: the object of `json` is the last event of `stream-json`."""

    program = "claude"

    def __init__(self, *, multiline: bool) -> None:
        self._multiline = multiline
        super().__init__()
        self._result: dict[str, Any] | None = None
        self._was_cut = False
        self._session_id: str | None = None
        self._model: str | None = None
        self._api_error: str | None = None  # of the last assistant event
        self._retry_error: str | None = None  # of the last api_retry
        self._rejected = False  # by the last rate_limit_event
        self._reset: datetime | None = None
        # Usage of the messages so far: all there is where the process is ended before its result.
        self._spent: dict[str, int] = {}
        self._message_id: str | None = None
        self._message_spent: dict[str, int] = {}

    def _scan_stdout(self) -> JsonScanner:
        skip = () if self._multiline else (b'{"type":"user"', b'{"type":"stream_event"')
        return JsonScanner(self._on_event, multiline=self._multiline, skip=skip)

    def _on_event(self, event: dict[str, Any], was_cut: bool) -> None:
        kind = event.get("type")
        self._session_id = as_text(event.get("session_id")) or self._session_id
        if kind == "result":
            self._result, self._was_cut = event, was_cut
        elif kind == "assistant":
            self._on_assistant(event)
        elif kind == "system":
            if event.get("subtype") == "init":
                self._model = as_text(event.get("model")) or self._model
            elif event.get("subtype") == "api_retry":
                self._retry_error = as_text(event.get("error"))
        elif kind == "rate_limit_event":
            info = as_dict(event.get("rate_limit_info"))
            is_covered = info.get("isUsingOverage") is True
            self._rejected = info.get("status") == "rejected" and not is_covered
            self._reset = as_time(info.get("resetsAt")) if self._rejected else None

    def _on_assistant(self, event: dict[str, Any]) -> None:
        self._api_error = as_text(event.get("error"))
        message = as_dict(event.get("message"))
        message_id = as_text(message.get("id"))
        if message_id is None or message_id != self._message_id:
            self._spent = add_tokens(self._spent, self._message_spent)
            self._message_id = message_id
        self._message_spent = _usage_tokens(message.get("usage"))

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict."""
        self._stdout.finish()
        if self._result is None:
            return self._judge_without_result(exit_code, signal)
        return self._judge(self._result)

    def _judge(self, event: dict[str, Any]) -> Verdict:
        usage_by_model = as_dict(event.get("modelUsage"))
        subtype = event.get("subtype")
        is_failure = event.get("is_error") is True or (
            isinstance(subtype, str) and subtype.startswith("error")
        )
        known: dict[str, Any] = {
            "cost_usd": as_cost(event.get("total_cost_usd")),
            "is_cumulative_cost": True,
            "tokens": _usage_tokens(event.get("usage")) or _model_tokens(usage_by_model),
            "model": _dearest(usage_by_model) or self._model,
            "turns": as_count(event.get("num_turns")),
            "session_id": self._session_id,
            "permission_denials": denials(event.get("permission_denials")),
        }
        text, structured = event.get("result"), event.get("structured_output")
        if not is_failure:
            result = build_result(text, structured, cut=self._was_cut)
            return Verdict(outcome="completed", result=result, **known)

        kind = self._failure_kind(event)
        errors = [line for line in as_list(event.get("errors")) if isinstance(line, str)]
        error = as_error("; ".join(errors)) or as_error(text) or f"claude ended with {subtype}"
        return Verdict(
            outcome="rate_limited" if kind == "rate_limited" else "failed",
            failure_kind=kind,
            error=error,
            result=build_result(None, structured),
            rate_limit_reset=self._reset if kind == "rate_limited" else None,
            **known,
        )

    def _failure_kind(self, event: dict[str, Any]) -> str:
        """Return the kind of a failure, from typed fields alone, the most telling first."""
        subtype, terminal = event.get("subtype"), event.get("terminal_reason")
        if isinstance(subtype, str) and subtype in _SUBTYPE_KINDS:
            return _SUBTYPE_KINDS[subtype]
        if self._api_error in _ERROR_KINDS:
            return _ERROR_KINDS[self._api_error]
        kind = kind_of_status(as_count(event.get("api_error_status")))
        if kind is not None:
            return kind
        if self._rejected:
            return "rate_limited"
        if isinstance(terminal, str) and terminal in _TERMINAL_KINDS:
            return _TERMINAL_KINDS[terminal]
        return "unknown"

    def _judge_without_result(self, exit_code: int | None, signal: int | None) -> Verdict:
        known = {
            "tokens": add_tokens(self._spent, self._message_spent),
            "model": self._model,
            "session_id": self._session_id,
        }
        if self._rejected and not (exit_code == 0 and signal is None):
            return Verdict(
                outcome="rate_limited",
                failure_kind="rate_limited",
                error=self.explain("no result after a rate limit", exit_code, signal),
                rate_limit_reset=self._reset,
                **known,  # type: ignore[arg-type]
            )
        if self._retry_error is not None:
            what = f"no result while it retried after an API error ({self._retry_error})"
            return Verdict(
                outcome="failed",
                failure_kind="bad_output" if exit_code == 0 and signal is None else "crashed",
                error=self.explain(what, exit_code, signal),
                **known,  # type: ignore[arg-type]
            )
        return self.without_result(exit_code, signal, **known)


def _usage_tokens(usage: Any) -> dict[str, int]:
    usage = as_dict(usage)
    return token_counts(
        input=usage.get("input_tokens"),
        output=usage.get("output_tokens"),
        cacheRead=usage.get("cache_read_input_tokens"),
        cacheWrite=usage.get("cache_creation_input_tokens"),
    )


def _model_tokens(usage_by_model: dict[str, Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for usage in map(as_dict, usage_by_model.values()):
        counts = token_counts(
            input=usage.get("inputTokens"),
            output=usage.get("outputTokens"),
            cacheRead=usage.get("cacheReadInputTokens"),
            cacheWrite=usage.get("cacheCreationInputTokens"),
        )
        total = add_tokens(total, counts)
    return total


def _dearest(usage_by_model: dict[str, Any]) -> str | None:
    """Return the model that most of the money went to: the others were its helpers."""
    costs = {
        name: as_cost(as_dict(usage).get("costUSD")) or 0 for name, usage in usage_by_model.items()
    }
    return as_text(max(costs, key=lambda name: costs[name])) if costs else None
