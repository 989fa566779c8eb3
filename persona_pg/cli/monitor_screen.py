"""The monitor's screen: a snapshot as lines that fit the terminal."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from persona_pg.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNFINISHED = ("pending", "running", "hung", "held", "blocked")
_ENDED = ("completed", "failed", "cancelled")
_BAR_WIDTH = 10
_LEAST_SECTION = 3
_BLOCKS = "▁▂▃▄▅▆▇█"
_SGR = re.compile(r"(\x1b\[[0-9;]*m)")


def draw(
    snapshot: dict[str, Any], *, width: int, height: int, later: float = 0.0, note: str = ""
) -> list[str]:
    """Draw a snapshot that is *later* seconds old."""
    lines = head(snapshot, width, note)
    sections = [
        ("running", [_running(job, later) for job in snapshot["running"]]),
        ("ended in the last hour", [_ended(job) for job in snapshot["recentEnds"]]),
    ]
    for number, (title, rows) in enumerate(sections):
        room = height - len(lines) - 2
        if number == 0 and sections[1][1]:
            room -= min(len(sections[1][1]) + 2, max(_LEAST_SECTION, room // 3))
        if rows and room > 0:
            lines += ["", output.dim(title), *rows[:room]]
    return [fit(line, width) for line in lines[:height]]


def fit(line: str, width: int) -> str:
    """Cut a line to so many columns; its colours take none and are ended."""
    kept, left = [], width
    for part in _SGR.split(line):
        if _SGR.fullmatch(part):
            kept.append(part)
        elif left > 0 and part:
            kept.append(output.cut(part, left))
            left -= min(left, output.width_of(part))
    return "".join(kept)


def sparkline(values: Sequence[float]) -> str:
    """Draw values as blocks, the largest as a full one; nothing at all is a line of the lowest."""
    most = max(values, default=0)
    if most <= 0:
        return _BLOCKS[0] * len(values)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[0 if v <= 0 else max(1, round(v / most * top))] for v in values)


def bar(percent: float, width: int) -> str:
    """Draw how far something is."""
    full = round(min(100.0, max(0.0, percent)) / 100 * width)
    return "[" + "#" * full + "-" * (width - full) + "]"


def _counts(summary: dict[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(
        output.styled(f"{summary[name]} {name}", name) if summary[name] else f"0 {name}"
        for name in names
    )


def head(snapshot: dict[str, Any], width: int, note: str = "") -> list[str]:
    """Draw the counts of a snapshot, and what is to be said of it."""
    summary, runners = snapshot["summary"], snapshot["runners"]
    lost = output.styled(f", {runners['lost']} lost", "lost") if runners["lost"] else ""
    alerts = summary["unseenAlerts"]
    told = output.styled(f"{alerts} unseen", "hung") if alerts else "none"
    room = max(10, min(60, width - 35))
    done, failed = snapshot["completedByMinute"], snapshot["failedByMinute"]
    lines = [
        f"queue    {_counts(summary, _UNFINISHED)}",
        f"ended    {_counts(summary, _ENDED)}",
        f"runners  {runners['live']} live, {summary['running']}/{runners['capacity']} in use{lost}",
        f"cost     ${float(summary['costToday']):.2f} today    alerts {told}",
        f"done     {sparkline(done[-room:])} {sum(done)} in the last hour",
        f"failed   {sparkline(failed[-room:])} {sum(failed)} in the last hour",
        f"pending  {sparkline(snapshot['pendingByMinute'][-room:])} {summary['pending']} now",
    ]
    if oldest := snapshot["oldestPending"]:
        waits = f" for {oldest['waitingFor']}" if oldest["waitingFor"] else ""
        lines.append(
            f"oldest   {oldest['shortId']}  {oldest['agent']}"
            f"  waits {output.duration(oldest['seconds'])}{waits}"
            f"  {output.clean(oldest['task'] or '')}"
        )
    for gate in snapshot["gates"]:
        reason = f": {output.clean(gate['reason'])}" if gate["reason"] else ""
        lines.append(
            output.styled(f"gate     {gate['provider']} is {gate['state']}{reason}", "held")
        )
    if note:
        lines.append(output.styled(note, "hung"))
    return lines


def _running(job: dict[str, Any], later: float) -> str:
    name = "hung" if job["hung"] else "running"
    parts = [
        output.styled(f"{name:<7}", name),
        job["shortId"],
        f"{job['agent']:<10}",
        f"{output.duration((job['seconds'] or 0) + later):>8}",
    ]
    if job["progress"] is not None:
        parts.append(f"{bar(job['progress'], _BAR_WIDTH)} {float(job['progress']):3.0f} %")
    if job["secondsLeft"] is not None:
        parts.append(f"{output.duration(max(0.0, job['secondsLeft'] - later))} left")
    parts.append(f"on {job['runner']}")
    parts.append(output.clean(job["progressText"] or job["task"] or ""))
    return "  ".join(parts)


def _ended(job: dict[str, Any]) -> str:
    outcome = job["outcome"]
    style = outcome if outcome in {"completed", "cancelled", "held"} else "failed"
    at = datetime.fromisoformat(job["endedAt"]).astimezone().strftime("%H:%M:%S")
    why = job["task"] if outcome == "completed" else job["error"]
    shown = output.styled(f"{outcome.replace('_', ' '):<12}", style)
    return "  ".join([shown, job["shortId"], f"{job['agent']:<10}", at, output.clean(why or "")])
