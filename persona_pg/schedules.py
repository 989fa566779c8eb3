"""Due times of cron expressions, computed from the server's times and never from our own clock.

What becomes of a due time is decided in SQL (plan_schedules); here expressions are read. cronsim
follows Debian's cron where the clocks change: a job of a fixed hour whose time does not exist runs
right after the gap, and one whose time comes twice runs the first time only; where the hour is a
wildcard it runs at each time that the clock shows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class BadSchedule(ValueError):
    """The expression or its time zone cannot be read."""


def times(spec: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    """Yield the due times after *after*, in UTC: in one zone Python compares what clocks show."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise BadSchedule(f"time zone {time_zone!r} is not known on this machine") from exc
    try:
        found = CronSim(_NAMED.get(spec.lower(), spec), after.astimezone(zone))
    except CronSimError as exc:
        raise BadSchedule(f"{spec!r} is no cron expression: {exc}") from exc
    utc = (at.astimezone(UTC) for at in found)
    # Begun in an hour that comes twice, it starts with the first one's.
    return (at for at in utc if at > after)


def plan(wanted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Answer schedules_to_plan: what plan_schedules takes."""
    return [{"name": w["name"], "revision": _text(w["revision"])} | _planned(w) for w in wanted]


def _planned(wanted: Mapping[str, Any]) -> dict[str, Any]:
    spec, zone, until = wanted["spec"], wanted["time_zone"], _moment(wanted["until"])
    try:
        due = _latest(spec, zone, _moment(wanted["after"]), until, wanted["most"])
        coming = next(times(spec, zone, until), None)
    except BadSchedule as exc:
        return {"problem": str(exc)}
    return {
        "due": [at.isoformat() for at in due],
        "next": None if coming is None else coming.isoformat(),
    }


def _latest(spec: str, zone: str, after: datetime, until: datetime, most: int) -> list[datetime]:
    """Return the due times up to *until*, only the latest *most*.

    Looks back further and further: years of missed minutes cost no more than those that count.
    """
    back = timedelta(hours=1)
    while True:
        start = max(after, until - back)
        due = list(takewhile(lambda at: at <= until, times(spec, zone, start)))
        if len(due) >= most or start == after:
            return due[-most:]
        back *= 8


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _text(value: datetime | str) -> str:
    return value if isinstance(value, str) else value.isoformat()
