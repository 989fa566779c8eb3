"""Times, durations, money and payloads, as people read them."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from persona_pg.web import ansi

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration(value: Any) -> str:
    """Write a number of seconds with one or two units."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return f"-{_duration(-seconds)}" if seconds < 0 else _duration(seconds)


def _duration(seconds: float) -> str:
    if seconds < _MINUTE - 0.5:
        if seconds < 0.0995:
            return f"{seconds * 1000:.0f} ms"
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def moment(value: Any, form: str = "ago") -> Markup:
    """Write a time; the page's script turns it into the reader's zone, or how long ago it was."""
    if value is None:
        return Markup("")
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds"), form, at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d(?::\d\d)?")


def told(text: str | None) -> Markup:
    """Write a sentence of the database with the times in it as times."""
    text = ansi.to_plain(text or "")
    out, at = [], 0
    for found in _STAMP.finditer(text):
        with contextlib.suppress(ValueError):  # it only looks like one
            out += [escape(text[at : found.start()]), moment(found[0], "told")]
            at = found.end()
    return Markup("").join([*out, escape(text[at:])])


def words(name: str) -> str:
    """Write a name of a program's as words: cacheRead, job_failed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def money(value: Any) -> str:
    """Write dollars."""
    if value is None:
        return ""
    amount = float(value)
    return f"${amount:,.2f}" if amount == 0 or abs(amount) >= 0.005 else f"${amount:.4f}"


def count(value: Any) -> str:
    """Write a number with groups of three."""
    return "" if value is None else f"{int(value):,}"


def as_json(value: Any) -> str:
    """Write a document as a person would."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
