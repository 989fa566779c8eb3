"""What there is to measure, in the order in which it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_pg.bench import claims, enqueue, runs, upkeep
from persona_pg.bench.model import Report, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from persona_pg.bench.lab import Lab
    from persona_pg.bench.model import Row
    from persona_pg.bench.plan import Plan

    Measurement = Callable[[Lab, Plan], Iterator[Row | Series]]

# name: (the rows it gives, what it does)
MEASUREMENTS: dict[str, tuple[str, Measurement]] = {
    "enqueue": ("S1", enqueue.single),
    "listeners": ("S2", enqueue.with_listeners),
    "bulk": ("S3", enqueue.bulk),
    "claim": ("S4", claims.batches),
    "claim-one": ("S5", claims.one_by_one),
    "latency": ("S6", runs.latency),
    "depth": ("S7", claims.depth),
    "snapshot": ("S8", claims.held_snapshot),
    "true": ("S9", runs.true_jobs),
    "idle": ("S10", runs.idle),
    "heartbeats": ("S11", claims.heartbeats),
    "output": ("S12", runs.output),
    "cleanup": ("S13", upkeep.cleanup),
    "commands": ("S14", upkeep.command_lines),
    "memory": ("S15", runs.memory_per_job),
}


def measure(lab: Lab, plan: Plan, names: Sequence[str], *, say: Callable[[str], None]) -> Report:
    """Run the named measurements; one that fails is reported and the others go on."""
    report = Report(lab.machine())
    for name in names:
        key, measurement = MEASUREMENTS[name]
        say(f"{key} {name}")
        try:
            for found in measurement(lab, plan):
                (report.series if isinstance(found, Series) else report.rows).append(found)  # type: ignore[arg-type]
        except Exception as exc:  # noqa: BLE001 the others may well work
            report.skipped[f"{key} {name}"] = " ".join(str(exc).split())[:300]
    return report
