"""How much is measured: a minute, a coffee, or a night."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one run."""

    seconds: float = 5.0  # of each pgbench run
    pairs: int = 2  # of measurement and reference, in turns
    clients: tuple[int, ...] = (1, 8, 32)
    jobs: int = 50_000  # of each drain
    depths: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    finished: int = 1_000_000  # history behind the deepest queue
    steps: int = 10  # while a snapshot is held
    step_jobs: int = 10_000
    spawned: int = 2_000
    latencies: int = 200
    heartbeats: int = 10_000
    idle_seconds: float = 60.0
    log_lines: int = 200_000
    output_mb: int = 3_000
    cleaned: int = 200_000
    repeats: int = 20  # of each command line
    running: int = 200  # jobs that sleep, for the memory of each


QUICK = Plan(
    seconds=1, pairs=1, clients=(1, 4), jobs=2_000, depths=(1_000, 5_000), finished=5_000,
    steps=3, step_jobs=1_000, spawned=100, latencies=10, heartbeats=500, idle_seconds=3,
    log_lines=5_000, output_mb=50, cleaned=2_000, repeats=3, running=10,
)  # fmt: skip
NORMAL = Plan()
FULL = Plan(
    seconds=10, pairs=3, jobs=200_000, depths=(10_000, 100_000, 1_000_000, 10_000_000),
    finished=10_000_000, spawned=5_000, cleaned=1_000_000, log_lines=1_000_000,
)  # fmt: skip
