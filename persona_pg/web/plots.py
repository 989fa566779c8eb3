"""Numbers as pictures: geometry in units of the data, which the templates write as SVG.

A picture is stretched to the width there is, so its texts stand beside it in HTML, and each shape
carries its numbers as a title.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from persona_pg.web import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from persona_pg.model import TreeNode

Row = dict[str, Any]

_HEIGHT = 100.0
_MOST_SERIES = 6
_LABELS = 5
_NODE_WIDTH, _NODE_HEIGHT, _GAP_X, _GAP_Y = 210, 46, 46, 12
_LEAST_SPAN = 0.15  # of a percent: what is shorter would not be seen


@dataclass
class Plot:
    """A picture over time, or over something else along the horizontal."""

    width: float
    top: float
    shapes: list[Row] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    series: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    unit: str = "count"
    words: str = ""
    height: float = _HEIGHT

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to see."""
        return self.top <= 0

    @property
    def top_text(self) -> str:
        """Write the highest value."""
        return written(self.top, self.unit)


def written(value: Any, unit: str) -> str:
    """Write a value with its unit."""
    if unit == "seconds":
        return shown.duration(value)
    return shown.money(value) if unit == "money" else shown.count(value)


def _nice(top: float) -> float:
    """Round up to a number that a person would put at an axis."""
    if top <= 0:
        return 0.0
    step: float = 10 ** math.floor(math.log10(top))
    return next(step * n for n in (1, 2, 3, 4, 5, 6, 8, 10) if step * n >= top)


def _whole(top: float) -> float:
    return max(_nice(top), 4.0) if top > 0 else 0.0


def _ticks(rows: Sequence[Row]) -> list[Any]:
    if len(rows) < 2:
        return [row["at"] for row in rows]
    last = len(rows) - 1
    return [rows[round(n * last / (_LABELS - 1))]["at"] for n in range(_LABELS)]


def bars(rows: Sequence[Row], names: tuple[str, ...]) -> Plot:
    """Stack counts, bucket by bucket."""
    top = _whole(max((sum(row[n] for n in names) for row in rows), default=0))
    plot = Plot(len(rows) or 1, top, labels=_ticks(rows), rows=list(rows))
    plot.series = [
        {"name": name, "style": name, "total": shown.count(sum(row[name] for row in rows))}
        for name in names
    ]
    for number, row in enumerate(rows):
        y = _HEIGHT
        told = ", ".join(f"{row[n]} {n}" for n in names if row[n])
        for name in names:
            if row[name]:
                height = float(row[name]) / top * _HEIGHT
                y -= height
                plot.shapes.append(
                    {
                        "x": number + 0.08,
                        "y": round(y, 2),
                        "w": 0.84,
                        "h": round(height, 2),
                        "style": name,
                        "at": row["at"],
                        "title": told,
                    }
                )
    plot.words = ", ".join(f"{one['total']} {one['name']}" for one in plot.series)
    return plot


def minutes(snapshot: Row) -> Plot:
    """Draw what ended in each minute of the last hour."""
    at = datetime.fromisoformat(snapshot["at"]).replace(second=0, microsecond=0)
    done, failed = snapshot["completedByMinute"], snapshot["failedByMinute"]
    return bars(
        [
            {"at": at - timedelta(minutes=len(done) - 1 - n), "completed": d, "failed": f}
            for n, (d, f) in enumerate(zip(done, failed, strict=True))
        ],
        ("completed", "failed"),
    )


def area(rows: Sequence[Row], name: str) -> Plot:
    """Draw one value over time as a filled line."""
    top = _whole(max((row[name] for row in rows), default=0))
    plot = Plot(max(len(rows) - 1, 1), top, labels=_ticks(rows), rows=list(rows))
    if top > 0:
        line = _path([row[name] for row in rows], top)
        plot.shapes = [
            {"d": f"{line} L{len(rows) - 1} 100 L0 100 Z", "style": f"{name} fill"},
            {"d": line, "style": name},
        ]
    plot.series = (
        [{"name": name, "style": name, "total": shown.count(rows[-1][name])}] if rows else []
    )
    plot.words = (
        f"{rows[-1][name]} {name} now, {max(r[name] for r in rows)} at most" if rows else ""
    )
    return plot


def lines(rows: Sequence[Row], names: tuple[str, ...]) -> Plot:
    """Draw seconds over time; a bucket without any leaves a gap."""
    top = _nice(max((row[n] or 0 for row in rows for n in names), default=0))
    plot = Plot(max(len(rows) - 1, 1), top, labels=_ticks(rows), rows=list(rows), unit="seconds")
    for name in names:
        values = [row[name] for row in rows]
        title = name.removesuffix("_seconds")
        if top > 0:
            plot.shapes.append({"d": _path(values, top), "style": title})
        known = [value for value in values if value is not None]
        plot.series.append(
            {
                "name": {"p50": "median", "max": "longest"}[title],
                "style": title,
                "total": f"up to {shown.duration(max(known))}" if known else "none",
            }
        )
    plot.words = ", ".join(f"{one['name']} {one['total']}" for one in plot.series)
    return plot


def _path(values: Sequence[Any], top: float) -> str:
    parts, is_down = [], False
    for number, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        y = round(_HEIGHT - float(value) / top * _HEIGHT, 2)
        parts.append(f"{'L' if is_down else 'M'}{number} {y}")
        alone = number + 1 >= len(values) or values[number + 1] is None
        if not is_down and alone:
            parts.append(f"L{number + 0.4} {y}")
        is_down = True
    return " ".join(parts)


def ranges(rows: Sequence[Row]) -> Plot:
    """Draw percentiles of durations as ranges on a logarithmic scale, a row a job type."""
    names = ("p50_seconds", "p90_seconds", "p99_seconds", "max_seconds")
    known = [max(row[name], 0.001) for row in rows for name in names]
    if not known:
        return Plot(100, 0)
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        return round((math.log10(max(value, 0.001)) - low) / (high - low) * 100, 2)

    plot = Plot(100, max(known), unit="seconds")
    plot.labels = [shown.duration(10.0**power) for power in range(low, high + 1)]
    plot.rows = [row | {name[:3]: x(row[name]) for name in names} for row in rows]
    plot.words = "; ".join(
        f"{row['job_type']}: median {shown.duration(row['p50_seconds'])},"
        f" 99 % within {shown.duration(row['p99_seconds'])}"
        for row in rows
    )
    return plot


def summed(rows: Iterable[Row], key: str) -> list[Row]:
    """Sum costs by one of their columns, the most expensive first, with their part of the most."""
    money: dict[str, Decimal] = defaultdict(Decimal)
    runs: dict[str, int] = defaultdict(int)
    for row in rows:
        name = row[key] or "—"
        money[name] += row["cost_usd"]
        runs[name] += row["executions"]
    most = max(money.values(), default=Decimal(0)) or Decimal(1)
    return [
        {"name": name, "cost_usd": cost, "executions": runs[name], "part": float(cost / most) * 100}
        for name, cost in sorted(money.items(), key=lambda item: -item[1])
    ]


def by_day(rows: Sequence[Row], days: int, now: datetime) -> Plot:
    """Stack the costs of each day by agent."""
    chosen = [one["name"] for one in summed(rows, "agent")[:_MOST_SERIES]]
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    cost: dict[tuple[Any, str], float] = defaultdict(float)
    for row in rows:
        name = row["agent"] if row["agent"] in chosen else "others"
        cost[row["day"], name] += float(row["cost_usd"])
    names = [*chosen, *(["others"] if any(n == "others" for _, n in cost) else [])]
    dates = [first + timedelta(days=n) for n in range(days)]
    top = _nice(max((sum(cost[day, n] for n in names) for day in dates), default=0))
    plot = Plot(days, top, unit="money")
    midnight = [datetime(d.year, d.month, d.day, tzinfo=UTC) for d in dates]
    plot.labels = [midnight[round(n * (days - 1) / (_LABELS - 1))].date() for n in range(_LABELS)]
    for number, day in enumerate(dates):
        y = _HEIGHT
        total = sum(cost[day, name] for name in names)
        for order, name in enumerate(names):
            if cost[day, name] > 0:
                height = cost[day, name] / top * _HEIGHT
                y -= height
                plot.shapes.append(
                    {
                        "x": number + 0.1,
                        "y": round(y, 2),
                        "w": 0.8,
                        "h": round(height, 2),
                        "style": f"series-{order}",
                        "day": day,
                        "title": f"{name} {shown.money(cost[day, name])} of {shown.money(total)}",
                    }
                )
        plot.rows.append({"day": day, "total": total} | {n: cost[day, n] for n in names})
    plot.series = [
        {
            "name": name,
            "style": f"series-{order}",
            "total": shown.money(sum(cost[day, name] for day in dates)),
        }
        for order, name in enumerate(names)
    ]
    plot.words = ", ".join(f"{one['name']} {one['total']}" for one in plot.series)
    return plot


def gantt(rows: Sequence[Row], now: datetime, span: timedelta) -> Plot:
    """Lay executions out by runner; those at the same time go below each other."""
    start = now - span
    plot = Plot(100, float(bool(rows)))
    plot.labels = [start + n * span / (_LABELS - 1) for n in range(_LABELS)]
    lanes: dict[str, list[list[Row]]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["started_at"]):
        begin = max((row["started_at"] - start) / span * 100, 0.0)
        end = ((row["ended_at"] or now) - start) / span * 100
        if end <= 0:
            continue
        seconds = ((row["ended_at"] or now) - row["started_at"]).total_seconds()
        shape = {
            "end": end,
            "x": round(begin, 3),
            "w": round(max(end - begin, _LEAST_SPAN), 3),
            "style": row["outcome"] or "running",
            "job_id": row["job_id"],
            "title": f"{row['short_id'] or 'cleaned up'} {row['agent'] or ''}:"
            f" {row['outcome'] or 'running'}, {shown.duration(seconds)}"
            f" {row['task_preview'] or ''}",
        }
        lane = lanes[row["runner_name"]]
        for line in lane:
            if line[-1]["end"] <= begin:
                line.append(shape)
                break
        else:
            lane.append([shape])
    plot.rows = [
        {"name": name, "lines": lane, "count": sum(map(len, lane))}
        for name, lane in sorted(lanes.items())
    ]
    plot.words = ", ".join(f"{row['name']}: {row['count']} executions" for row in plot.rows)
    return plot


def tree(nodes: Sequence[TreeNode], current: UUID) -> Plot:
    """Draw who has delegated to whom, from left to right."""
    children: dict[Any, list[TreeNode]] = defaultdict(list)
    ids = {node.job_id for node in nodes}
    for node in nodes:
        children[node.parent_job_id if node.parent_job_id in ids else None].append(node)
    places: dict[Any, tuple[float, float]] = {}
    row = 0.0

    def place(node: TreeNode, depth: int) -> float:
        nonlocal row
        below = [place(child, depth + 1) for child in children[node.job_id]]
        if below:
            y = (below[0] + below[-1]) / 2
        else:
            y = row
            row += _NODE_HEIGHT + _GAP_Y
        places[node.job_id] = (depth * (_NODE_WIDTH + _GAP_X), y)
        return y

    for root in children[None]:
        place(root, 0)
    deepest = max(x for x, _ in places.values())
    plot = Plot(deepest + _NODE_WIDTH, len(nodes), height=row - _GAP_Y)
    for node in nodes:
        x, y = places[node.job_id]
        plot.rows.append({"x": x, "y": y, "node": node, "is_current": node.job_id == current})
        if node.parent_job_id in places:
            from_x, from_y = places[node.parent_job_id]
            from_x, from_y = from_x + _NODE_WIDTH, from_y + _NODE_HEIGHT / 2
            to_y, half = y + _NODE_HEIGHT / 2, _GAP_X / 2
            plot.shapes.append(
                {"d": f"M{from_x} {from_y} C{from_x + half} {from_y} {x - half} {to_y} {x} {to_y}"}
            )
    plot.words = f"{len(nodes)} jobs in the tree"
    return plot
