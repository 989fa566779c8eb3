"""Creating jobs: one a transaction by many clients, with listeners about, and in bulk."""

from __future__ import annotations

import functools
import json
import select
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections
from persona_pg.bench import queueing
from persona_pg.bench.lab import AGENT, Lab, pgbench
from persona_pg.bench.model import Row, Series
from persona_pg.runner import calls
from persona_pg.runner.claims import ClaimCycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persona_pg.bench.plan import Plan
    from persona_pg.database import Connection
    from persona_pg.runner.session import Step

_BODY = "x" * 200
_BARE = "insert into bench_bare (body) values (repeat('x', 300));"
_BARE_NOTIFY = _BARE + "\nselect pg_notify('bench', '');"
# One transaction each: pgbench's own begin and end around two statements.
_IN_ONE = "begin;\n{}\nend;"
_PAYLOAD = f'{{"prompt": "{_BODY}"}}'
_CREATE = f"select id from persona.create_job('bench', '{_PAYLOAD}', agent => '{AGENT}');"
_LISTENERS = 4
# So many jobs each of them would take at once.
_ROOM = 100
_MOMENT = 0.01
_BULK = 1000


def single(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S1: create_job, one a transaction, over the bare insert of a row of the same size."""
    _make_bare(lab)
    points: list[tuple[float, float]] = []
    for clients in plan.clients:
        bare, ours = _pair(lab, plan, clients, _BARE, _CREATE)
        points.append((clients, ours))
        yield Row(
            "S1", f"create_job, {clients} client(s)", ours, "jobs/s",
            bare, "bare insert", 0.60,
        )  # fmt: skip
    yield Series("S1", "create_job over clients", "clients", "jobs/s", points)
    notify = pgbench(
        lab, _IN_ONE.format(_BARE_NOTIFY), clients=plan.clients[-1], seconds=plan.seconds
    )
    yield Row("limit", f"bare insert with NOTIFY, {plan.clients[-1]} clients", notify, "rows/s")


def with_listeners(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S2: the same with four runners listening, over the same with NOTIFY taken out."""
    clients = plan.clients[-1]
    for kind, bar in (("busy", 0.90), ("idle", 0.80)):
        silent: list[float] = []
        heard: list[float] = []
        for _ in range(plan.pairs):
            with _without_notify(lab), _runners(lab, is_idle=kind == "idle", is_deaf=True):
                silent.append(pgbench(lab, _CREATE, clients=clients, seconds=plan.seconds))
            with _runners(lab, is_idle=kind == "idle"):
                heard.append(pgbench(lab, _CREATE, clients=clients, seconds=plan.seconds))
            queueing.empty(lab)
        yield Row(
            "S2", f"create_job, {clients} clients, {_LISTENERS} runners {kind}",
            sum(heard) / len(heard), "jobs/s", sum(silent) / len(silent), "without NOTIFY", bar,
        )  # fmt: skip
    points = [(float(n), _heard_by(lab, plan, n)) for n in plan.clients]
    title = f"create_job over clients, {_LISTENERS} idle runners listening"
    yield Series("S2", title, "clients", "jobs/s", points)


def _heard_by(lab: Lab, plan: Plan, clients: int) -> float:
    with _runners(lab, is_idle=True):
        rate = pgbench(lab, _CREATE, clients=clients, seconds=plan.seconds)
    queueing.empty(lab)
    return rate


def bulk(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S3: create_jobs, 1,000 a call."""
    rate = queueing.fill(lab, plan.jobs, batch=_BULK)
    bare = _bare_bulk(lab, plan.jobs)
    queueing.empty(lab)
    # The bar of S3 is set against a peer: compare.py adds that row where it is there.
    yield Row(
        "S3", f"create_jobs, {_BULK} a call", rate, "jobs/s", bare, "bare insert of a JSON array"
    )


def _make_bare(lab: Lab) -> None:
    with lab.connect() as conn:
        conn.execute("drop table if exists bench_bare")
        conn.execute(
            "create table bench_bare (id bigint generated always as identity primary key,"
            " body text not null)"
        )


def _pair(lab: Lab, plan: Plan, clients: int, bare: str, ours: str) -> tuple[float, float]:
    """Measure two scripts in turns, so that a slow minute of the machine hits both."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(plan.pairs):
        for script, found in zip((bare, ours), rates, strict=True):
            found.append(pgbench(lab, script, clients=clients, seconds=plan.seconds))
        queueing.empty(lab)
        with lab.connect() as conn:
            conn.execute("truncate bench_bare")
    return sum(rates[0]) / plan.pairs, sum(rates[1]) / plan.pairs


def _bare_bulk(lab: Lab, jobs: int) -> float:
    _make_bare(lab)
    batch = json.dumps([{"body": _BODY + _BODY[:100]}] * _BULK)
    with lab.connect() as conn:
        began = time.monotonic()
        for _ in range(max(1, jobs // _BULK)):
            conn.execute(
                "insert into bench_bare (body) select r.body"
                " from jsonb_to_recordset(%s::jsonb) as r (body text)",
                (batch,),
            )
        return max(1, jobs // _BULK) * _BULK / (time.monotonic() - began)


@contextmanager
def _without_notify(lab: Lab) -> Iterator[None]:
    """Take the notification out of the scratch schema for a while."""
    with lab.connect() as conn:
        row = connections.only_row(
            conn, "select pg_get_functiondef('persona._wake(text)'::regprocedure)"
        )
        conn.execute(
            "create or replace function persona._wake(p_agent text) returns void language sql"
            " volatile set search_path = pg_catalog, persona, pg_temp as 'select'"
        )
        try:
            yield
        finally:
            conn.execute(row[0])


@contextmanager
def _runners(lab: Lab, *, is_idle: bool, is_deaf: bool = False) -> Iterator[None]:
    """Four runners that listen: busy ones never ask; idle ones take whatever there is.

    When to ask is decided as in a real runner. Deaf ones look every 10 ms, so that without NOTIFY
    the same work is done.
    """
    stop = threading.Event()
    threads = [
        threading.Thread(target=_listen, args=(lab, is_idle, is_deaf, stop), daemon=True)
        for _ in range(_LISTENERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _listen(lab: Lab, is_idle: bool, is_deaf: bool, stop: threading.Event) -> None:
    with lab.connect() as conn:
        conn.execute("listen persona_wake")
        runner = queueing.register(conn)
        cycle = ClaimCycle(runner, net_interval=None)
        cycle.connection = _answer(conn, calls.open_connection(runner))
        conn.add_notify_handler(functools.partial(_hear, cycle))
        while not stop.is_set():
            steps = cycle.steps(_ROOM, time.monotonic()) if is_idle else []
            answers = [_answer(conn, step) for step in steps]
            jobs = cycle.take(answers, time.monotonic()) if steps else []
            if jobs:
                queueing.complete(conn, runner, jobs)
            if cycle.is_asleep or not steps:
                _doze(conn, cycle, is_deaf=is_deaf)
        conn.execute("select persona.deregister_runner(%s)", (runner,))


def _hear(cycle: ClaimCycle, _: psycopg.Notify) -> None:
    cycle.notified(time.monotonic())


def _answer(conn: Connection, step: Step) -> Any:
    row = psycopg.RawCursor(conn).execute(step.sql, step.params).fetchone()
    return None if row is None else row[0]


def _doze(conn: Connection, cycle: ClaimCycle, *, is_deaf: bool) -> None:
    """Wait for a notification, for what the cycle waits for, or for a moment."""
    until = cycle.next_at
    left = _MOMENT if until is None else min(_MOMENT, max(0.0, until - time.monotonic()))
    select.select([conn.fileno()], [], [], left)
    conn.pgconn.consume_input()
    while conn.pgconn.notifies() is not None:
        cycle.notified(time.monotonic())
    if is_deaf and cycle.is_asleep:
        cycle.wake()
