"""A progress bar on stderr for who waits at a terminal; nothing anywhere else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Self

from persona_pg.cli import output

_WIDTH = 24
_EVERY = 0.1


class Bar:
    """Shows how far something is.  A total of None: only words, of what is under way."""

    def __init__(self, label: str, total: int | None = None, *, quiet: bool = False) -> None:
        self._label = label
        self.total = total
        self.is_on = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._started = time.monotonic()
        self._drawn_at = float("-inf")
        self._is_drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.clear()

    def show(self, done: float, text: str = "") -> None:
        """Draw it, at most ten times a second; the end is always drawn."""
        now = time.monotonic()
        is_end = self.total is not None and done >= self.total
        if not self.is_on or (now - self._drawn_at < _EVERY and not is_end):
            return
        self._drawn_at = now
        parts = [self._label]
        if self.total:
            share = min(1.0, max(0.0, done / self.total))
            full = round(share * _WIDTH)
            parts.append(f"[{'#' * full}{'-' * (_WIDTH - full)}] {share * 100:3.0f} %")
            if 0 < share < 1:
                left = (now - self._started) * (1 - share) / share
                parts.append(f"{output.duration(left)} left")
        if text:
            parts.append(output.clean(text))
        room = max(20, shutil.get_terminal_size().columns) - 1
        self._write("\r\x1b[K" + output.cut("  ".join(parts), room))
        self._is_drawn = True

    def clear(self) -> None:
        """Take it away, so that a line can be said; the next show() brings it back."""
        if self._is_drawn:
            self._write("\r\x1b[K")
            self._is_drawn = False
            self._drawn_at = float("-inf")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
