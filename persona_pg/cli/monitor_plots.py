"""The dashboard's plots and tables as text: persona monitor --plots."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from persona_pg.cli import output
from persona_pg.cli.monitor_screen import bar, sparkline
from persona_pg.looks import Looks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from persona_pg.queue import Queue

Row = dict[str, Any]

SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
_COST_DAYS = 14
_MOST_EXECUTIONS = 1500
_MOST_ROWS = 12
_NAME = 16
_HOUR = timedelta(hours=1)


def draw(queue: Queue, span: str, width: int) -> list[str]:
    """Draw what the dashboard's overview and plots show beside the counts."""
    looks = Looks(queue.database)
    room = max(20, min(60, width - 45))
    now = datetime.fromisoformat(queue.monitor_snapshot(1)["at"])
    executions = looks.executions(_HOUR, _MOST_EXECUTIONS)
    sections = [
        (f"last {span}", _over_time(looks, SPANS[span], room)),
        ("runners, and what they ran in the last hour", _runners(queue, executions, now, room)),
        ("durations by type: median, 90 %, 99 %", _durations(looks.durations(SPANS[span]), room)),
        ("failures of the last day", [_failure(row) for row in looks.failures(SPANS["24h"])]),
        (f"cost of the last {_COST_DAYS} days (UTC)", _costs(looks.costs(_COST_DAYS), now, room)),
        ("budgets", [_budget(budget) for budget in queue.budgets()]),
        (
            "limits",
            [
                f"{_name(x.name)}  {x.running} of {x.max_running}, {x.parked} wait"
                for x in queue.limits()
            ],
        ),
    ]
    lines: list[str] = []
    for title, rows in sections:
        if rows:
            lines += ["", output.dim(title), *rows[:_MOST_ROWS]]
    return lines


def _name(text: str) -> str:
    return output.cut(output.clean(text), _NAME).ljust(_NAME)


def _over_time(looks: Looks, span: timedelta, room: int) -> list[str]:
    through = looks.throughput(span, room)
    waits = looks.waits(span, room)

    def line(name: str, values: Sequence[Any], words: str, style: str | None = None) -> str:
        # Fifty buckets may be fifty and a begun one.
        drawn = sparkline([float(value or 0) for value in values[-room:]])
        return f"{name:<10} {output.styled(drawn, style)} {words}"

    longest = max((row["max_seconds"] or 0 for row in waits), default=0)
    middle = max((row["p50_seconds"] or 0 for row in waits), default=0)
    done, failed = ([row[name] for row in through] for name in ("completed", "failed"))
    depth = [row["pending"] for row in through]
    return [
        line("created", [r["created"] for r in through], f"{sum(r['created'] for r in through)}"),
        line("completed", done, f"{sum(done)}", "completed"),
        line("failed", failed, f"{sum(failed)}", "failed"),
        line("pending", depth, f"{depth[-1] if depth else 0} now, {max(depth, default=0)} at most"),
        line(
            "waited", [r["p50_seconds"] for r in waits], f"median up to {output.duration(middle)}"
        ),
        line("at most", [r["max_seconds"] for r in waits], f"up to {output.duration(longest)}"),
    ]


def _runners(queue: Queue, executions: Iterable[Row], now: datetime, room: int) -> list[str]:
    """Draw each runner's load now, and its busy slots in each part of the last hour."""
    start, part = now - _HOUR, _HOUR / room
    busy: dict[str, list[float]] = defaultdict(lambda: [0.0] * room)
    for row in executions:
        begin = max(0.0, (row["started_at"] - start) / part)
        end = min(float(room), ((row["ended_at"] or now) - start) / part)
        for column in range(int(begin), math.ceil(end)):
            busy[row["runner_name"]][column] += min(end, column + 1) - max(begin, column)
    lines = []
    for runner in queue.runners():
        if runner.status != "gone":
            load = f"{runner.running} of {runner.capacity}"
            status = output.styled(f"{runner.status:<8}", runner.status)
            shown = sparkline([*busy[runner.name], runner.capacity])[:-1]
            lines.append(f"{_name(runner.name)}  {status}  {load:<9}  {shown}")
    return lines


def _durations(rows: Sequence[Row], room: int) -> list[str]:
    """Draw ranges on one logarithmic scale, the longest of all at the end."""
    known = [max(row[n], 0.001) for row in rows for n in ("p50_seconds", "p99_seconds")]
    if not known:
        return []
    low = math.log10(min(known))
    wide = max(math.log10(max(known)) - low, 0.1)

    def place(seconds: float) -> int:
        return round((math.log10(max(seconds, 0.001)) - low) / wide * (room - 1))

    lines = []
    for row in rows:
        figures = [row[f"{name}_seconds"] for name in ("p50", "p90", "p99")]
        middle, most, nearly_all = map(place, figures)
        drawn = "".join(
            "|"
            if n == middle
            else "="
            if middle < n <= most
            else "-"
            if most < n <= nearly_all
            else " "
            for n in range(room)
        )
        words = ", ".join(map(output.duration, figures))
        lines.append(f"{_name(row['job_type'])}  {drawn}  {words}")
    return lines


def _failure(row: Row) -> str:
    kind = output.styled(f"{row['failure_kind'].replace('_', ' '):<16}", "failed")
    short = str(row["last_job_id"])[-8:]
    return f"{kind}  {row['executions']:>5}  last {short}  {output.clean(row['last_error'] or '')}"


def _costs(rows: Iterable[Row], now: datetime, room: int) -> list[str]:
    by_day: dict[Any, float] = defaultdict(float)
    for row in rows:
        by_day[row["day"]] += float(row["cost_usd"])
    most = max(by_day.values(), default=0.0)
    today = now.astimezone(UTC).date()
    days = [today - timedelta(days=n) for n in range(_COST_DAYS - 1, -1, -1)]
    if most <= 0:
        return []
    first = next(n for n, day in enumerate(days) if by_day[day] > 0)
    return [
        f"{day}        {'█' * max(round(by_day[day] / most * room), by_day[day] > 0):<{room}}"
        f"  ${by_day[day]:,.2f}"
        for day in days[max(first, _COST_DAYS - _MOST_ROWS) :]
    ]


def _budget(budget: Any) -> str:
    of = f" {budget.subject}" if budget.subject else ""
    used = float(budget.used_usd or 0)
    part = 100 * used / float(budget.limit_usd) if budget.limit_usd else 100.0
    held = f", {budget.held} held" if budget.held else ""
    return (
        f"{_name(budget.name)}  {bar(part, 20)}  ${used:,.2f} of ${float(budget.limit_usd):,.2f}"
        f" a {budget.period}, {budget.scope}{of}{held}"
    )
