"""What commands print: tables that fit the terminal, JSON, colours, durations, ages."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Row = TypeVar("Row")
_GAP = 2
_LEAST_WIDTH = 8
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STYLES: dict[str, dict[str, Any]] = {
    "pending": {"fg": "yellow"},
    "blocked": {"fg": "yellow"},
    "held": {"fg": "yellow"},
    "running": {"fg": "cyan"},
    "completed": {"fg": "green"},
    "failed": {"fg": "red"},
    "hung": {"fg": "red", "bold": True},
    "cancelled": {"fg": "magenta"},
    "idle": {"fg": "green"},
    "busy": {"fg": "cyan"},
    "draining": {"fg": "yellow"},
    "lost": {"fg": "red"},
}
# C0 and C1 controls, and the marks that reorder text: a job must not be able to paint over the
# listing that shows it.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SGR = re.compile(r"\x1b\[[0-9;]*m")


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json and --jsonl."""
    lines = click.option("--jsonl", "as_jsonl", is_flag=True, help="Print a JSON object a line.")
    return json_option(lines(command))


def has_colour(stream: Any = None) -> bool:
    """Tell whether colours are wanted: on a terminal, and unless NO_COLOR is set."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(stream.isatty())


def styled(text: str, style: str | None = None) -> str:
    """Colour a text the way its status asks for."""
    wanted = _STYLES.get(style or text)
    return click.style(text, **wanted) if wanted and has_colour() else text


def dim(text: str) -> str:
    """Write a text less loudly."""
    return click.style(text, dim=True) if has_colour() else text


def put(text: str = "") -> None:
    """Print a line of the answer."""
    sys.stdout.write(text + "\n")


def put_json(document: Any) -> None:
    """Print one JSON document."""
    indent = 2 if sys.stdout.isatty() else None
    put(json.dumps(document, ensure_ascii=False, indent=indent, default=plain))


def put_jsonl(documents: Iterable[Any]) -> None:
    """Print a JSON object a line."""
    for document in documents:
        put(json.dumps(document, ensure_ascii=False, default=plain))


def plain(value: Any) -> Any:
    """Write in JSON what has no type there."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return number(value.total_seconds())
    if isinstance(value, Decimal):
        return number(float(value))
    return str(value)


def number(value: float) -> float | int:
    """Drop a fraction of nothing."""
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Column:
    """A column of a table: how wide it must be is seen from its texts.

    A *flexible* one is cut where the terminal is too narrow; the others are left out by *rank*,
    the highest first (0 always stays).
    """

    title: str
    text: Callable[[Any], str]
    right: bool = False
    flexible: bool = False
    rank: int = 0
    style: Callable[[Any], str | None] | None = None


def put_listing(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    document: Callable[[Row], Any],
    as_json: bool = False,
    as_jsonl: bool = False,
    empty: str,
) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        put_json([document(row) for row in rows])
    elif as_jsonl:
        put_jsonl(document(row) for row in rows)
    elif rows:
        put_table(rows, columns)
    else:
        click.echo(empty, err=True)


def put_table(rows: Sequence[Any], columns: Sequence[Column]) -> None:
    """Print a table that fits the terminal; into a pipe nothing is cut."""
    from tabulate import tabulate

    cells = [[clean(column.text(row)) for column in columns] for row in rows]
    chosen = list(range(len(columns)))
    widths = [
        max(width_of(columns[i].title), *(width_of(line[i]) for line in cells)) for i in chosen
    ]
    if (limit := terminal_width()) is not None:
        chosen = _fit(columns, widths, limit)
    table = []
    for row, line in zip(rows, cells, strict=True):
        shown = []
        for i in chosen:
            style = columns[i].style
            text = cut(line[i], widths[i])
            shown.append(styled(text, style(row)) if style is not None else text)
        table.append(shown)
    # The titles as a row among the others: tabulate makes columns with headers wider.
    text = tabulate(
        [[columns[i].title for i in chosen], *table],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["right" if columns[i].right else "left" for i in chosen],
    )
    head, *body = text.split("\n")
    put(dim(head.rstrip()))
    for body_line in body:
        put(body_line.rstrip())


def _fit(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    """Choose the columns that fit; narrows the flexible ones of *widths* in place."""
    chosen = list(range(len(columns)))
    while True:
        total = sum(widths[i] for i in chosen) + _GAP * (len(chosen) - 1)
        for i in chosen:
            if columns[i].flexible and total > limit:
                least = max(_LEAST_WIDTH, width_of(columns[i].title))
                narrowed = max(min(widths[i], least), widths[i] - (total - limit))
                total -= widths[i] - narrowed
                widths[i] = narrowed
        droppable = [i for i in chosen if columns[i].rank > 0]
        if total <= limit or not droppable:
            return chosen
        chosen.remove(max(droppable, key=lambda i: columns[i].rank))


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where output goes elsewhere."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return max(20, shutil.get_terminal_size().columns)


def clean(text: str) -> str:
    """Make a text fit for a line of a table."""
    return _UNSAFE.sub(" ", _SGR.sub("", text))


def printable(text: str) -> str:
    """Make a log line safe for a terminal: colours stay, other controls are shown."""
    parts = _SGR.split(text)
    kept = _SGR.findall(text) if has_colour() else [""] * (len(parts) - 1)
    shown = [_UNSAFE.sub(_visible, part) for part in parts]
    return "".join(a + b for a, b in zip(shown, [*kept, ""], strict=True))


def _visible(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\t" else repr(match[0])[1:-1]


def width_of(text: str) -> int:
    """Count the columns of a text."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or char in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Shorten a text to so many columns."""
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def duration(seconds: float | Decimal | timedelta | None) -> str:
    """Write a duration for people: 0.4s, 12s, 3m 05s, 2h 10m, 4d 3h."""
    if seconds is None:
        return ""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    value = max(0.0, float(seconds))
    if value < 10:
        return f"{value:.1f}s"
    whole = round(value)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return _two(whole // _MINUTE, "m", whole % _MINUTE, "s")
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f" {small:02d}{small_unit}" if small else "")


def age(at: datetime | None) -> str:
    """Write how long ago something was, by the local clock."""
    if at is None:
        return ""
    seconds = (datetime.now(at.tzinfo) - at).total_seconds()
    return f"in {duration(-seconds)}" if seconds < -1 else f"{duration(seconds)} ago"


def moment(at: datetime | None) -> str:
    """Write a point in time in the local zone."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def money(amount: Decimal | None) -> str:
    """Write US dollars; small amounts with more digits."""
    if amount is None:
        return ""
    return f"${amount:.2f}" if amount == 0 or abs(amount) >= Decimal("0.1") else f"${amount:.4f}"
