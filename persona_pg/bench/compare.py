"""Peers in the same run: each in a process of its own, through its public interface only.

A peer is what is installed: Python packages where --peer-python runs, Node.js packages below
--node-modules.  What is not there is left out and said so.  Every adapter answers one line of
JSON: {"rate": jobs a second} or {"p50": ms, "p99": ms}.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_pg.bench.model import Report, Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona_pg.bench.lab import Lab
    from persona_pg.bench.plan import Plan

_ADAPTERS = Path(__file__).resolve().parent / "peers"
_TIMEOUT = 600
_runs = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another queue, and what its adapter can do."""

    name: str
    script: str
    tasks: tuple[str, ...]

    @property
    def is_node(self) -> bool:
        """Whether it runs under Node.js."""
        return self.script.endswith(".mjs")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("procrastinate", "procrastinate_.py", ("bulk", "drain", "latency", "true")),
        Peer("pgqueuer", "pgqueuer_.py", ("bulk", "drain", "latency", "true")),
        Peer("graphile", "graphile.mjs", ("bulk", "drain", "latency", "true")),
    )
}


class PeerMissing(Exception):
    """The peer is not installed, or its adapter failed."""


def measure(
    report: Report,
    lab: Lab,
    plan: Plan,
    names: Iterable[str],
    *,
    python: str = sys.executable,
    node_modules: Path | None = None,
) -> None:
    """Run each peer's tasks, add their rows, and set ours against the best of them."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name in names:
        peer = PEERS[name]
        for task, arguments in _tasks(plan):
            if task.partition(":")[0] not in peer.tasks:
                continue
            try:
                answer = _run(lab, peer, task, arguments, python=python, node_modules=node_modules)
            except PeerMissing as exc:
                report.skipped[f"{name} {task}"] = str(exc)
                continue
            found[name, task] = answer
            if "rate" in answer:
                report.rows.append(Row("peer", f"{name}: {_words(task)}", answer["rate"], "jobs/s"))
            else:
                for percent in ("p50", "p99"):
                    title = f"{name}: {_words(task)}, {percent}"
                    report.rows.append(Row("peer", title, answer[percent], "ms"))
    set_against(report, found)


def _tasks(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("bulk", {"jobs": plan.jobs}),
        ("drain:1", {"jobs": plan.jobs, "workers": 1}),
        ("drain:2", {"jobs": plan.jobs, "workers": 2}),
        ("latency", {"jobs": plan.latencies}),
        ("true:3", {"jobs": plan.spawned, "concurrency": 3}),
        ("true:16", {"jobs": plan.spawned, "concurrency": 16}),
    ]


def _words(task: str) -> str:
    kind, _, number = task.partition(":")
    return {
        "bulk": "enqueue in bulk",
        "drain": f"drain of no-op jobs in process, {number} worker(s)",
        "latency": "enqueue to handler start, idle",
        "true": f"`true` as a subprocess, no capture, {number} at once",
    }[kind]


@dataclass(frozen=True, slots=True)
class _Contest:
    """Which of our rows is set against which peers' task, and what the ratio has to reach."""

    key: str
    prefix: str  # of our row's title
    task: str
    peers: tuple[str, ...]
    bar: float
    figure: str = "rate"


_CONTESTS = (
    _Contest("S3", "create_jobs", "bulk", ("pgqueuer",), 1.25),
    _Contest("S4", "claim_jobs + complete_jobs, 500 a batch, 1", "drain:1", ("graphile",), 1.0),
    _Contest("S4", "claim_jobs + complete_jobs, 500 a batch, 2", "drain:2", ("graphile",), 1.0),
    # 3 and 6 ms on a machine where a handler of graphile starts after 2.4 and 5.5.
    _Contest("S6", "create to process started, p50", "latency", ("graphile",), 1.25, "p50"),
    _Contest("S6", "create to process started, p99", "latency", ("graphile",), 1.09, "p99"),
    _Contest("S9", "`true` through a runner, 3", "true:3", tuple(PEERS), 1.0),
    _Contest("S9", "`true` through a runner, 16", "true:16", tuple(PEERS), 1.0),
)


def set_against(report: Report, found: dict[tuple[str, str], dict[str, float]]) -> None:
    """Add our rows once more, beside what peers have done: by name and task, as they answered."""
    for contest in _CONTESTS:
        ours = next(
            (r for r in report.rows
             if r.key == contest.key and r.title.startswith(contest.prefix)),
            None,
        )  # fmt: skip
        theirs = [
            (found[name, contest.task][contest.figure], name)
            for name in contest.peers if (name, contest.task) in found
        ]  # fmt: skip
        if ours is None or not theirs:
            continue
        best, name = (max if ours.better == "more" else min)(theirs)
        report.rows.append(
            replace(ours, reference=best, reference_name=name, bar=contest.bar, note="")
        )


def _run(
    lab: Lab,
    peer: Peer,
    task: str,
    arguments: dict[str, Any],
    *,
    python: str,
    node_modules: Path | None,
) -> dict[str, float]:
    database = lab.make_database(f"{lab.name}_{peer.name}_{task.replace(':', '_')}_{next(_runs)}")
    script = _ADAPTERS / peer.script
    environment = lab.libpq_environment(database)
    if peer.is_node:
        node = shutil.which("node")
        if node is None or node_modules is None:
            raise PeerMissing("needs node and --node-modules")
        # ES modules are looked for beside the script that imports them, wherever NODE_PATH points.
        copy = node_modules.parent / f".persona-bench-{script.name}"
        shutil.copyfile(script, copy)
        command = [node, str(copy)]
    else:
        command = [python, str(script)]
    try:
        done = subprocess.run(
            [*command, database, task.partition(":")[0], json.dumps(arguments)],
            env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"not done within {_TIMEOUT} s") from None
    finally:
        if peer.is_node:
            copy.unlink(missing_ok=True)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            answer: dict[str, float] = json.loads(line)
            return answer
    words = (done.stderr.strip().splitlines() or ["no answer"])[-1]
    raise PeerMissing(f"exit code {done.returncode}: {words[:200]}")
