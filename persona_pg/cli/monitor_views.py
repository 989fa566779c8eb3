"""What the monitor shows: read from the queue, drawn as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona_pg.cli import monitor_plots, monitor_screen

if TYPE_CHECKING:
    from persona_pg.queue import Queue

MOST_ROWS = 50
# Plots go on with the time, also where nothing changes.
_PLOTS_REDRAWN = 10.0


class Overview:
    """What runs and has ended, below the counts."""

    def __init__(self, queue: Queue) -> None:
        self.snapshot: dict[str, Any] | None = None
        self._queue = queue

    @property
    def seconds_due(self) -> float | None:
        """When something changes that no row tells of: a lease runs out."""
        return None if self.snapshot is None else self.snapshot["dueInSeconds"]

    def read(self, width: int) -> None:
        """Read the queue."""
        del width
        self.snapshot = self._queue.monitor_snapshot(MOST_ROWS)

    def draw(self, width: int, height: int, later: float = 0.0, note: str = "") -> list[str]:
        """Draw what was read so many seconds ago."""
        if self.snapshot is None:
            return []
        return monitor_screen.draw(
            self.snapshot, width=width, height=height, later=later, note=note
        )


class Plots:
    """What the dashboard draws, below the counts."""

    seconds_due = _PLOTS_REDRAWN

    def __init__(self, queue: Queue, span: str) -> None:
        self.snapshot: dict[str, Any] | None = None
        self._queue = queue
        self._span = span
        self._plots: list[str] = []

    def read(self, width: int) -> None:
        """Read the queue, and its past."""
        self._plots = monitor_plots.draw(self._queue, self._span, width)
        self.snapshot = self._queue.monitor_snapshot(1)

    def draw(self, width: int, height: int, later: float = 0.0, note: str = "") -> list[str]:
        """Draw what was read."""
        del later
        if self.snapshot is None:
            return []
        lines = [*monitor_screen.head(self.snapshot, width, note), *self._plots]
        return [monitor_screen.fit(line, width) for line in lines[:height]]
