"""The report for people: a table, and plots of text that fit a terminal or a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from persona_pg.bench.model import Report, Row, Series

_BAR_WIDTH = 48


def table(report: Report) -> list[list[str]]:
    """Return the rows as cells: key, what, value, reference, ratio, bar, verdict."""
    return [_cells(row) for row in report.rows]


def _cells(row: Row) -> list[str]:
    reference = ""
    if row.reference is not None:
        reference = f"{number(row.reference)} {row.reference_name}"
    bar = ""
    if row.bar is not None:
        bar = f"{'>=' if row.better == 'more' else '<='} {row.bar:g}"
    met = {None: "", True: "ok", False: "not met"}[row.is_met]
    return [
        row.key,
        row.title,
        f"{number(row.value)} {row.unit}".strip(),
        reference,
        "" if row.ratio is None else f"{row.ratio:.2f}",
        bar,
        met,
        row.note,
    ]


HEADS = ("", "what", "value", "beside it", "ratio", "bar", "", "note")
_BEGIN = "<!-- results of persona bench -->\n"
_END = "<!-- end of the results -->"


def into_document(report: Report, text: str) -> str:
    """Return the document with this report in the place of the one that it has."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"it has no lines {_BEGIN.strip()} and {_END}")
    return f"{before}{begin}\n{markdown(report)}\n{end}{after}"


def markdown(report: Report) -> str:
    """Return the report as Markdown: the machine, a table, the plots."""
    lines = [", ".join(f"{name} {value}" for name, value in report.machine.items()), ""]
    lines += [_line(HEADS), _line("---" for _ in HEADS)]
    lines += [_line(cells) for cells in table(report)]
    lines += [f"\nNot measured: {name}: {why}" for name, why in report.skipped.items()]
    for series in report.series:
        lines += ["", "```text", *plot(series), "```"]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float) -> str:
    """Write a figure with as many digits as it deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def plot(series: Series) -> Iterator[str]:
    """Draw a series as bars, one line a point."""
    top = max((y for _, y in series.points), default=0) or 1.0
    yield f"{series.title} ({series.unit})"
    labels = [f"{x:,.0f}" for x, _ in series.points]
    width = max((len(label) for label in labels), default=0)
    for label, (_, y) in zip(labels, series.points, strict=True):
        yield f"  {label:>{width}} {'#' * max(1, round(y / top * _BAR_WIDTH))} {number(y)}"


def document(report: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    return {
        "machine": report.machine,
        "rows": [
            asdict(row) | {"ratio": row.ratio, "met": row.is_met, "better": row.better}
            for row in report.rows
        ],
        "series": [asdict(series) for series in report.series],
        "skipped": report.skipped,
    }
