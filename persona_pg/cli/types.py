"""Types of option values: durations, times, texts and documents from elsewhere."""

from __future__ import annotations

import json
import re
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from persona_pg.settings import parse_duration, parse_size

_CLOCK_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

# Stands for an option that was left out where None has a meaning of its own.
NOT_GIVEN = "(not given)"


class Duration(click.ParamType[timedelta]):
    """A duration: 30, 30s, 5m, 2h, 1d."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(f"{value!r} is no duration such as 30, 30s, 5m, 2h or 1d", param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes: 4096, 512kB, 10MB, 1GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            return parse_size(str(value))
        except ValueError:
            self.fail(f"{value!r} is no size such as 4096, 512kB, 10MB or 1GB", param, ctx)


class OrNone(click.ParamType[Any]):
    """A value, or 'none' to take it away; NOT_GIVEN where the option is left out."""

    def __init__(self, inner: click.ParamType[Any]) -> None:
        self._inner = inner
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        if value in ("", NOT_GIVEN):
            return NOT_GIVEN
        return None if value == "none" else self._inner.convert(value, param, ctx)


class Time(click.ParamType[datetime]):
    """A point in time, in the local zone where it names none."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if match := _CLOCK_TIME.fullmatch(text):
            now = datetime.now().astimezone()
            hour, minute = int(match[1]), int(match[2])
            at = now.replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0)
            if at <= now.replace(tzinfo=None):
                at += timedelta(days=1)
            return at.astimezone()
        try:
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time such as 18:30, 2026-03-01T18:30 or 2026-03-01T18:30+01:00",
                param,
                ctx,
            )


class Date(click.ParamType[date]):
    """A day: 2026-03-01, today, yesterday."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read it."""
        if isinstance(value, date):
            return value
        days_ago = {"today": 0, "yesterday": 1}.get(str(value))
        if days_ago is not None:
            return datetime.now().astimezone().date() - timedelta(days=days_ago)
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no date such as 2026-03-01, today or yesterday", param, ctx)


class Integer(click.ParamType[int]):
    """A number that fits an integer of PostgreSQL; what is sensible, the database decides."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        if not -(2**31) <= number < 2**31:
            self.fail(f"{value} is not in the range -2147483648 to 2147483647", param, ctx)
        return number


class Usd(click.ParamType[Decimal]):
    """US dollars: 5, 0.30, $12.50."""

    name = "usd"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Read it."""
        try:
            amount = Decimal(str(value).strip().removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite():
            self.fail(f"{value!r} is no amount of US dollars such as 5 or 0.30", param, ctx)
        return amount


DATE = Date()
DURATION = Duration()
INTEGER = Integer()
OPTIONAL_DURATION = OrNone(DURATION)
OPTIONAL_SIZE = OrNone(Size())
TIME = Time()
USD = Usd()
OPTIONAL_USD = OrNone(USD)


def read_text(value: str) -> str:
    """Return a text argument; '-' stands for standard input."""
    return _decoded(sys.stdin.buffer.read(), "standard input") if value == "-" else value


def read_document(value: str, option: str) -> dict[str, Any]:
    """Return the JSON object that is given in place, as @FILE, or as - on standard input."""
    where = option
    if value == "-":
        where = "standard input"
        value = _decoded(sys.stdin.buffer.read(), where)
    elif value.startswith("@"):
        where = value[1:]
        try:
            value = _decoded(Path(where).read_bytes(), where)
        except OSError as exc:
            raise click.UsageError(f"{option}: cannot read {where}: {exc.strerror}") from None
    try:
        document = json.loads(value)
    except (json.JSONDecodeError, RecursionError) as exc:
        raise click.UsageError(f"{where} is not valid JSON: {exc}") from None
    if not isinstance(document, dict):
        raise click.UsageError(f'{where} must be a JSON object, like {{"prompt": "..."}}')
    return document


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"{where} is not valid UTF-8 at byte {exc.start}") from None
