"""What the measurements of the queue share: filling, claiming, completing, emptying."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections
from persona_pg.bench.lab import AGENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.bench.lab import Lab
    from persona_pg.database import Connection

_numbers = itertools.count()
_PAYLOAD = {"prompt": "x" * 200}


def register(conn: Connection) -> str:
    """Register a runner that is driven over this connection; returns its id."""
    row = connections.only_row(
        conn,
        "select id::text from persona.register_runner(name => %s, hostname => 'bench', pid => 1,"
        " capacity => 10000)",
        (f"bench-{next(_numbers)}",),
    )
    return str(row[0])


def fill(lab: Lab, jobs: int, *, batch: int = 1000) -> float:
    """Create so many jobs, so many a call; returns jobs a second."""
    batch = min(batch, jobs)
    text = json.dumps([{"job_type": "bench", "agent": AGENT, "payload": _PAYLOAD}] * batch)
    calls = jobs // batch
    with lab.connect() as conn:
        began = time.monotonic()
        for _ in range(calls):
            conn.execute("select count(*) from persona.create_jobs(%s::jsonb)", (text,))
        return calls * batch / (time.monotonic() - began)


def claim(conn: Connection, runner: str, batch: int) -> tuple[str, int]:
    """Claim a batch; returns the reports that complete it, and how many they are."""
    text, count = connections.only_row(
        conn,
        "select coalesce(json_agg(json_build_object('job_id', c.id, 'lease', c.lease,"
        " 'outcome', 'completed', 'exit_code', 0)), '[]')::text, count(*)"
        " from persona.claim_jobs(%s, %s) as c",
        (runner, batch),
    )
    return str(text), int(count)


def claim_and_complete(conn: Connection, runner: str, batch: int) -> int:
    """Claim a batch and complete it, as a runner does; returns how many it got."""
    reports, count = claim(conn, runner, batch)
    if count:
        report(conn, runner, reports)
    return count


def complete(conn: Connection, runner: str, jobs: Sequence[dict[str, Any]]) -> None:
    """Report claimed jobs as completed."""
    reports = [
        {"job_id": job["id"], "lease": job["lease"], "outcome": "completed", "exit_code": 0}
        for job in jobs
    ]
    report(conn, runner, json.dumps(reports))


def report(conn: Connection, runner: str, reports: str) -> None:
    """Report how jobs ended."""
    conn.execute("select count(*) from persona.complete_jobs(%s, %s::jsonb)", (runner, reports))


def drain(conn: Connection, runner: str, batch: int) -> None:
    """Claim and complete until nothing is left."""
    while claim_and_complete(conn, runner, batch):
        pass


def empty(lab: Lab) -> None:
    """Throw all jobs and runners of the scratch database away."""
    with lab.connect() as conn:
        conn.execute(
            "truncate persona.jobs, persona.job_queue, persona.job_leases, persona.job_attempts,"
            " persona.job_dependencies, persona.job_logs, persona.cost_ledger, persona.cost_totals,"
            " persona.cost_fresh, persona.alerts, persona.runners, persona.idle_runners cascade"
        )


def settle_statistics(lab: Lab) -> None:
    """Do what autovacuum would have done by now on a server that is not just being filled."""
    with lab.connect() as conn:
        for table in ("jobs", "job_queue", "job_leases", "job_attempts"):
            conn.execute(f"vacuum (analyze) persona.{table}")


def write_out(lab: Lab) -> None:
    """Write what filling millions of rows has left to write: else whoever needs the room does.

    Not before a short measurement: after it the first change of each page is logged as a whole,
    which no peer has to bear here.
    """
    with lab.connect() as conn, suppress(psycopg.errors.InsufficientPrivilege):
        conn.execute("checkpoint")
