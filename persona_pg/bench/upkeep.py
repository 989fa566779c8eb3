"""Retention beside claims, and what a person or a plugin waits for at the command line."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from psycopg import sql

from persona_pg import connections
from persona_pg.bench import queueing
from persona_pg.bench.lab import AGENT, Lab, program
from persona_pg.bench.model import Row, Series, percentile
from persona_pg.resources import bin_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from persona_pg.bench.plan import Plan

_ALONE_SECONDS = 5
# As many as a tick takes at once.
_BATCH = 2000
_LINES = 10
_OLD = (
    """
insert into persona.jobs (id, short_id, job_type, status, agent, payload, attempt,
  created_at, started_at, completed_at, exit_code, lease, ended_lease)
select i.id, right(i.id::text, 8), 'bench', 'completed', %(agent)s, '{}', 1, i.at, i.at, i.at, 0,
  extract(epoch from i.at) * 1000000, extract(epoch from i.at) * 1000000
from (
  select now() - interval '60 days' as at, overlay(persona._new_id()::text
      placing left(persona._id_floor(now() - interval '60 days')::text, 13) from 1)::uuid as id
  from generate_series(1, %(count)s)) as i
""",
    """
insert into persona.job_attempts (job_id, lease, attempt, is_counted, outcome, started_at, ended_at)
select j.id, j.lease, 1, true, 'completed', j.started_at, j.completed_at
from persona.jobs as j where j.status = 'completed'
""",
    """
insert into persona.job_logs (day, job_id, lease, seq, at, stream, message)
select persona._lease_day(j.lease), j.id, j.lease, n, j.completed_at, 'stdout',
  'a line of ordinary length from a program'
from persona.jobs as j cross join generate_series(1, %(lines)s) as n where j.status = 'completed'
""",
)


def cleanup(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S13: cleanup_old_jobs of many finished jobs with logs, while others claim."""
    _make_old(lab, plan.cleaned)
    # More than are claimed meanwhile.
    queueing.fill(lab, max(20_000, plan.cleaned // 5))
    queueing.settle_statistics(lab)
    queueing.write_out(lab)
    stop = threading.Event()
    waits: list[float] = []
    ends: list[float] = []

    def claim() -> None:
        with lab.connect() as conn:
            runner = queueing.register(conn)
            while not stop.is_set():
                began = time.monotonic()
                reports, count = queueing.claim(conn, runner, 1)
                if not count:
                    break
                claimed = time.monotonic()
                waits.append((claimed - began) * 1000)
                queueing.report(conn, runner, reports)
                ends.append((time.monotonic() - claimed) * 1000)

    alone = _while_claiming(claim, stop, lambda: time.sleep(_ALONE_SECONDS), waits)
    stop.clear()
    waits.clear()
    ends.clear()

    def clean() -> None:
        with lab.connect() as conn:
            # Which drops the log lines of that day as a whole.
            conn.execute("select persona.tick()")
            while True:
                row = conn.execute(
                    "select persona.cleanup_old_jobs(30, max_jobs => %s)", (_BATCH,)
                ).fetchone()
                if row is None or not row[0]:
                    return

    began = time.monotonic()
    beside = _while_claiming(claim, stop, clean, waits)
    seconds = time.monotonic() - began
    usual = percentile(waits, 99.9)
    queueing.empty(lab)
    yield Row(
        "S13", f"longest claim while {plan.cleaned:,} jobs are cleaned up", beside, "ms",
        bar=50, better="less",
        note=f"longest in {_ALONE_SECONDS} s without the cleanup {alone:.1f} ms;"
        f" beside it p99.9 {usual:.1f} ms, longest report {max(ends, default=0.0):.1f} ms,"
        f" {seconds:.1f} s in all",
    )  # fmt: skip


def command_lines(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S14: bin/persona-rpc summary over psql alone, and persona status."""
    # The one that the wrappers use.
    psql = program("psql", is_wheel_last=True)
    if psql is None:
        raise RuntimeError("psql was not found")
    runs: dict[str, list[float]] = {"psql": [], "rpc": [], "status": []}
    rpc = str(bin_directory() / "persona-rpc")
    status = [sys.executable, "-c", "from persona_pg.cli import main; main()", "status", "--json"]
    for _ in range(plan.repeats):
        runs["psql"].append(_timed([psql, "-XqAt", "-c", "select 1"], lab))
        runs["rpc"].append(_timed([rpc, "summary"], lab))
        runs["status"].append(_timed(status, lab))
    medians = {name: percentile(times, 50) for name, times in runs.items()}
    yield Row(
        "S14", "bin/persona-rpc summary", medians["rpc"], "ms", medians["psql"],
        "psql -c 'select 1'", 1.5, "less", note=f"both with {psql}",
    )  # fmt: skip
    yield Row("S14", "persona status", medians["status"], "ms", bar=250, better="less")


def _timed(command: Sequence[str], lab: Lab) -> float:
    environment = lab.environment() | {
        name: value for name, value in lab.libpq_environment().items() if name.startswith("PG")
    }
    began = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000


def _while_claiming(
    claim: Callable[[], None],
    stop: threading.Event,
    work: Callable[[], None],
    waits: list[float],
) -> float:
    thread = threading.Thread(target=claim, daemon=True)
    thread.start()
    work()
    stop.set()
    thread.join()
    return max(waits, default=0.0)


def _make_old(lab: Lab, count: int) -> None:
    """Put finished jobs of two months ago there, each with its attempt and ten lines of log."""
    with lab.connect() as conn:
        (day,) = connections.only_row(conn, "select (now() - interval '60 days')::date")
        conn.execute(
            sql.SQL(
                "create table persona.{} partition of persona.job_logs for values from ({}) to ({})"
            ).format(sql.Identifier(f"job_logs_{day:%Y%m%d}"), day, day + timedelta(days=1))
        )
        for statement in _OLD:
            conn.execute(statement, {"agent": AGENT, "count": count, "lines": _LINES})
        # As autovacuum had two months for it: it would read all of that while we measure.
        conn.execute("vacuum (analyze) persona.jobs, persona.job_attempts, persona.job_logs")
