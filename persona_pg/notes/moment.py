"""Dates in the format language of moment.js, in which Obsidian names daily notes.

Names of months and days are English, and weeks of the locale begin on Sunday: Obsidian's own
language is not in the vault.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

_TOKEN = re.compile(
    r"\[(?P<quoted>[^\[\]]*)\]|\\(?P<escaped>.)"
    r"|(?P<token>YYYY|YY|Y|Qo?|MMMM|MMM|MM|Mo|M|DDDD|DDDo|DDD|DD|Do|D|dddd|ddd|dd|do|d|E|e"
    r"|GGGG|GG|gggg|gg|WW|Wo|W|ww|wo|w)"
    r"|(?P<time>[HhkmsSAaXxZzLlN])|(?P<other>.)",
    re.DOTALL,
)


def format_date(day: date, pattern: str) -> str:
    """Write a date; ValueError names what is no part of one."""
    return "".join(_part(day, match) for match in _TOKEN.finditer(pattern))


def _part(day: date, match: re.Match[str]) -> str:
    if match["token"] is not None:
        return _WRITERS[match["token"]](day)
    if match["time"] is not None:
        raise ValueError(
            f"{match['time']!r} stands for no part of a date; plain text goes into [brackets]"
        )
    return match["quoted"] or match["escaped"] or match["other"] or ""


def _ordinal(number: int) -> str:
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in {11, 12, 13} else last}"


def _weekday(day: date) -> int:
    return day.isoweekday() % 7


def _quarter(day: date) -> int:
    return (day.month + 2) // 3


def _day_of_year(day: date) -> int:
    return day.timetuple().tm_yday


def _sunday_week(day: date) -> tuple[int, int]:
    """Return year and week where weeks begin on Sunday and week 1 holds January 1."""
    saturday = day.toordinal() + 6 - _weekday(day)
    last = day.fromordinal(saturday)
    return last.year, (_day_of_year(last) - 1) // 7 + 1


_WRITERS: dict[str, Callable[[date], str]] = {
    "YYYY": lambda d: f"{d.year:04d}",
    "YY": lambda d: f"{d.year % 100:02d}",
    "Y": lambda d: str(d.year),
    "Q": lambda d: str(_quarter(d)),
    "Qo": lambda d: _ordinal(_quarter(d)),
    "MMMM": lambda d: _MONTHS[d.month - 1],
    "MMM": lambda d: _MONTHS[d.month - 1][:3],
    "MM": lambda d: f"{d.month:02d}",
    "Mo": lambda d: _ordinal(d.month),
    "M": lambda d: str(d.month),
    "DDDD": lambda d: f"{_day_of_year(d):03d}",
    "DDDo": lambda d: _ordinal(_day_of_year(d)),
    "DDD": lambda d: str(_day_of_year(d)),
    "DD": lambda d: f"{d.day:02d}",
    "Do": lambda d: _ordinal(d.day),
    "D": lambda d: str(d.day),
    "dddd": lambda d: _DAYS[_weekday(d)],
    "ddd": lambda d: _DAYS[_weekday(d)][:3],
    "dd": lambda d: _DAYS[_weekday(d)][:2],
    "do": lambda d: _ordinal(_weekday(d)),
    "d": lambda d: str(_weekday(d)),
    "E": lambda d: str(d.isoweekday()),
    "e": lambda d: str(_weekday(d)),
    "GGGG": lambda d: f"{d.isocalendar().year:04d}",
    "GG": lambda d: f"{d.isocalendar().year % 100:02d}",
    "gggg": lambda d: f"{_sunday_week(d)[0]:04d}",
    "gg": lambda d: f"{_sunday_week(d)[0] % 100:02d}",
    "WW": lambda d: f"{d.isocalendar().week:02d}",
    "Wo": lambda d: _ordinal(d.isocalendar().week),
    "W": lambda d: str(d.isocalendar().week),
    "ww": lambda d: f"{_sunday_week(d)[1]:02d}",
    "wo": lambda d: _ordinal(_sunday_week(d)[1]),
    "w": lambda d: str(_sunday_week(d)[1]),
}
