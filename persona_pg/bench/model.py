"""What a measurement is: a figure, what it is compared with, and the bar for the ratio."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    *ratio* is the value over the reference; *bar* is what that has to reach (`more`) or must not
    pass (`less`).  A row without a reference is judged by its value.
    """

    key: str
    title: str
    value: float
    unit: str
    reference: float | None = None
    reference_name: str = ""
    bar: float | None = None
    better: Better = "more"
    note: str = ""

    @property
    def identity(self) -> tuple[str, str, float | None]:
        """What makes it the same row in another run, where another peer may be the best."""
        return self.key, self.title, self.bar

    @property
    def ratio(self) -> float | None:
        """The value over the reference; None where there is none."""
        return self.value / self.reference if self.reference else None

    @property
    def judged(self) -> float:
        """What the bar is for: the ratio where there is a reference, else the value."""
        return self.value if self.ratio is None else self.ratio

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is reached; None where there is none."""
        if self.bar is None:
            return None
        return self.judged >= self.bar if self.better == "more" else self.judged <= self.bar


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a plot: a rate over depth, over steps, over clients."""

    key: str
    title: str
    x_name: str
    unit: str
    points: list[tuple[float, float]]


@dataclass(slots=True)
class Report:
    """Everything one run has found."""

    machine: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def median_of(reports: Iterable[Report]) -> Report:
    """Return one report with the medians of several runs of the same measurements.

    A row that one of the runs does not have is the median of the others.
    """
    runs = list(reports)
    merged = Report(runs[0].machine)
    for run in runs:
        merged.skipped |= run.skipped
    for row in {row.identity: row for run in runs for row in run.rows}.values():
        same = [r for run in runs for r in run.rows if r.identity == row.identity]
        # The run whose ratio is in the middle: its value and its reference belong together.
        middle = sorted(same, key=lambda r: r.judged)[(len(same) - 1) // 2]
        merged.rows.append(middle)
    for title in dict.fromkeys(series.title for run in runs for series in run.series):
        merged.series.append(_middle([s for run in runs for s in run.series if s.title == title]))
    return merged


def _middle(runs: list[Series]) -> Series:
    """Return the median of each point."""
    points: dict[float, list[float]] = {}
    for series in runs:
        for x, y in series.points:
            points.setdefault(x, []).append(y)
    return replace(runs[0], points=[(x, statistics.median(found)) for x, found in points.items()])


def percentile(values: Iterable[float], percent: float) -> float:
    """Return a percentile of some values, by the nearest rank."""
    ordered = sorted(values)
    if percent == 50:
        return statistics.median(ordered)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
