"""Values from outside, made safe: for jsonb, for numeric columns, for people."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from persona_pg.verdict.model import ERROR_LIMIT, TEXT_LIMIT

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_COST = Decimal(10) ** 9
_MAX_COUNT = 2**53
_DENIALS_KEPT = 50
_DENIAL_INPUT_KEPT = 2000
_MAX_DEPTH = 100


def scrub(value: Any, depth: int = 0) -> Any:
    """Replace what jsonb refuses: NUL, lone surrogates, NaN, infinities, absurd nesting."""
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict | list) and depth >= _MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {scrub_text(key): scrub(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item, depth + 1) for item in value]
    return value


def scrub_text(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD."""
    # The search alone is fast; most texts need no more.
    return _UNSTORABLE.sub("\ufffd", text) if _UNSTORABLE.search(text) else text


def as_text(value: Any) -> str | None:
    """Return *value* where it is a text with something in it."""
    return scrub_text(value) if isinstance(value, str) and value else None


def as_error(value: Any) -> str | None:
    """Return *value* as an error text of bounded length."""
    text = as_text(value)
    if text is not None and len(text) > ERROR_LIMIT:
        return text[:ERROR_LIMIT] + " ..."
    return text


def as_dict(value: Any) -> dict[str, Any]:
    """Return *value* where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return *value* where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_count(value: Any) -> int | None:
    """Return *value* where it is a number that can be a count."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < _MAX_COUNT else None  # NaN compares false


def as_cost(value: Any) -> Decimal | None:
    """Return *value* where it is a number that can be a price."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost < _MAX_COST else None


def as_time(value: Any) -> datetime | None:
    """Return *value* (seconds since 1970, or ISO 8601 with a zone) as a time."""
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        return time if time.tzinfo is not None else None
    seconds = as_count(value)
    if seconds is None or seconds == 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def token_counts(**counts: Any) -> dict[str, int]:
    """Return the counts that are known; nothing where none is."""
    known = {name: as_count(value) for name, value in counts.items()}
    if all(value is None for value in known.values()):
        return {}
    return {name: value or 0 for name, value in known.items()}


def add_tokens(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Return the sums of two token counts."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def build_result(text: Any, structured: Any = None, *, cut: bool = False) -> dict[str, Any] | None:
    """Return the result column: the answer, scrubbed, and never much beyond the limit."""
    result: dict[str, Any] = {}
    answer = clip(text) if isinstance(text, str) else None
    if answer is not None:
        result["text"] = scrub_text(answer)
        cut = cut or answer is not text
    if structured is not None:
        structured = scrub(structured)
        if len(json.dumps(structured)) <= TEXT_LIMIT:
            result["structured"] = structured
        else:
            cut = True
    if cut and result:
        result["truncated"] = True
    return result or None


def clip(text: str) -> str:
    """Return *text* itself, or its beginning with a note where it is too long."""
    if len(text) <= TEXT_LIMIT:
        return text
    return text[:TEXT_LIMIT] + cut_note(TEXT_LIMIT, len(text), "characters")


def cut_note(kept: int, total: int, unit: str) -> str:
    """Return the note at the end of a text that was cut."""
    return f" [... cut: the first {kept} of {total} {unit} are kept]"


def denials(value: Any) -> list[dict[str, Any]]:
    """Return what the agent was not allowed to do, without its bulk."""
    listed: list[dict[str, Any]] = []
    for item in as_list(value)[:_DENIALS_KEPT]:
        if not isinstance(item, dict):
            continue
        denial = scrub(item)
        shown = json.dumps(denial)
        if len(shown) > _DENIAL_INPUT_KEPT:
            denial = {key: text for key, text in denial.items() if isinstance(text, str)}
            denial = {key: text[:200] for key, text in denial.items()}
            denial["tool_input_start"] = shown[:_DENIAL_INPUT_KEPT]
        listed.append(denial)
    return listed


_STATUS_KINDS = {
    401: "auth",
    402: "billing",
    403: "auth",
    404: "not_found",
    408: "overloaded",
    429: "rate_limited",
}


def kind_of_status(status: int | None) -> str | None:
    """Return the failure kind that an HTTP status of a provider stands for."""
    if status is None:
        return None
    return _STATUS_KINDS.get(status, "overloaded" if 500 <= status <= 599 else "unknown")
