"""What a runner was asked for on its command line."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Plain values, so that they can be written down for another process."""

    agents: tuple[str, ...]
    concurrency: int | None
    name: str | None
    drain: bool
    once: bool
    verbose: bool
