"""Claiming and completing: in batches and one by one, on a deep queue, behind a held snapshot."""

from __future__ import annotations

import json
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from persona_pg.bench import queueing
from persona_pg.bench.lab import AGENT, Lab, pgbench
from persona_pg.bench.model import Row, Series
from persona_pg.connections import only_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from persona_pg.bench.plan import Plan
    from persona_pg.database import Connection

BATCH = 500
_HELD_BATCH = 100

_BARE_TABLE = """
create table if not exists bench_queue (
  id bigint generated always as identity primary key, body text not null, state text not null)
"""
_BARE_FILL = (
    "insert into bench_queue (body, state) select repeat('x', 300), 'ready'"
    " from generate_series(1, %s)"
)
_BARE_BATCH = (
    "with c as (select id from bench_queue where state = 'ready' order by id limit %s"
    " for update skip locked) delete from bench_queue as q using c where q.id = c.id"
)
_BARE_ONE = """
update bench_queue set state = 'taken' where id = (
  select id from bench_queue where state = 'ready' order by id limit 1 for update skip locked)
returning id \\gset
delete from bench_queue where id = :id;
"""
# Jobs as create_jobs would have made them, with and without their entry in the queue.
_PIECE = 100_000
_FINISHED = """
insert into persona.jobs (id, short_id, job_type, status, agent, payload, attempt, started_at,
  completed_at, exit_code, lease, ended_lease)
select i.id, right(i.id::text, 8), 'bench', 'completed', %(agent)s, %(body)s, 1, now(), now(),
  0, 1, 1
from (select persona._new_id() as id from generate_series(1, %(count)s)) as i
"""
_PENDING = """
with made as (
  insert into persona.jobs (id, short_id, job_type, agent, payload, root_job_id)
  select i.id, right(i.id::text, 8), 'bench', %(agent)s, %(body)s, i.id
  from (select persona._new_id() as id from generate_series(1, %(count)s)) as i
  returning id, seq, agent, priority, run_at
)
insert into persona.job_queue (seq, job_id, agent, priority, run_at)
select m.seq, m.id, m.agent, m.priority, m.run_at from made as m
"""
# An exhausted queue would be measured as a fast one: the script fails, and pgbench with it.
_OURS_ONE = """
select id, lease from persona.claim_job(:runner) \\gset
select status from persona.complete_job(:runner, :id, :lease, 0);
"""


def batches(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S4: claim_jobs and complete_jobs, 500 a batch, by one connection and by two."""
    for connections in (1, 2):
        ours = _drain_by(lab, plan.jobs, connections, BATCH)
        bare = _bare_drain(lab, plan.jobs, connections)
        yield Row(
            "S4", f"claim_jobs + complete_jobs, {BATCH} a batch, {connections} connection(s)",
            ours, "jobs/s", bare, "bare batch delete",
        )  # fmt: skip


def one_by_one(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S5: claim_job and complete_job by one connection, over bare claim-one and delete-one."""
    seconds = plan.seconds
    # As many as a connection could possibly get through.
    enough = round(8000 * seconds)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(plan.pairs):
        _fill_bare(lab, enough)
        rates[0].append(pgbench(lab, _BARE_ONE, clients=1, seconds=seconds))
        queueing.fill(lab, enough)
        queueing.settle_statistics(lab)
        with lab.connect() as conn:
            runner = queueing.register(conn)
        rates[1].append(
            pgbench(lab, _OURS_ONE, clients=1, seconds=seconds, define={"runner": runner})
        )
        queueing.empty(lab)
    yield Row(
        "S5", "claim_job + complete_job, one by one", sum(rates[1]) / plan.pairs, "jobs/s",
        sum(rates[0]) / plan.pairs, "bare claim-one + delete-one", 0.50,
    )  # fmt: skip


def depth(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S7: the rate of S4 on a deep queue with a long history, over that on a short one."""
    shortest, *deeper = plan.depths
    points: list[tuple[float, float]] = [(shortest, 1.0)]
    filled = 0
    with lab.beside("short") as short:
        _make_pending(short, shortest)
        for size in deeper:
            if size == deeper[-1]:
                _make_history(lab, plan.finished)
            _make_pending(lab, size - filled)
            filled = size
            beside, rates = _drain_in_turns((short, lab), min(plan.jobs, shortest) // 2, plan)
            here, there = statistics.median(rates), statistics.median(beside)
            history = f" + {plan.finished:,} finished" if size == deeper[-1] else ""
            yield Row(
                "S7", f"S4 at {size:,} pending{history}", here, "jobs/s",
                there, f"at {shortest:,}, in turns", 0.95,
            )  # fmt: skip
            points.append((size, here / there))
    queueing.empty(lab)
    title = f"claim + complete over depth, each over {shortest:,} at the same time"
    yield Series("S7", title, "pending", "x", points)


def _drain_in_turns(labs: Sequence[Lab], jobs: int, plan: Plan) -> list[list[float]]:
    """Add and drain so many jobs in each place, again and again; returns the rates of each."""
    with ExitStack() as stack:
        for lab in labs:
            queueing.settle_statistics(lab)
            queueing.write_out(lab)
        drivers = [_driver(stack, lab) for lab in labs]
        rounds = [_round(labs, drivers, jobs, BATCH) for _ in range(1 + 4 * plan.pairs)]
    # Without the first, which warms up.
    return [list(rates) for rates in zip(*rounds[1:], strict=True)]


def held_snapshot(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S8: steps of filling and draining while somebody holds a snapshot; last over first.

    The same is done in turns in another database, where nobody holds one: what changes there is
    the machine.
    """
    for batch, jobs in ((_HELD_BATCH, plan.step_jobs), (1, plan.step_jobs // 10)):
        with lab.beside("free") as free, ExitStack() as stack:
            labs = (lab, free)
            drivers = [_driver(stack, one) for one in labs]
            stack.enter_context(_snapshot(lab))
            for one in labs:
                queueing.fill(one, jobs)
                queueing.settle_statistics(one)
            for conn, runner in drivers:
                queueing.drain(conn, runner, batch)  # warm
            rates = [_round(labs, drivers, jobs, batch) for _ in range(plan.steps)]
        queueing.empty(lab)
        (first, first_free), (last, last_free) = rates[0], rates[-1]
        yield Row(
            "S8", f"behind a held snapshot, {batch} a batch, step {plan.steps}", last, "jobs/s",
            first * last_free / first_free, "step 1, as the machine was then", 0.95,
            note=f"without a snapshot {last_free:,.0f}; in step 1 {first:,.0f}, {first_free:,.0f}",
        )  # fmt: skip
        points = [(float(step), held) for step, (held, _) in enumerate(rates, start=1)]
        yield Series(
            "S8", f"drain behind a held snapshot, {batch} a batch", "step", "jobs/s", points
        )


def _driver(stack: ExitStack, lab: Lab) -> tuple[Connection, str]:
    conn = stack.enter_context(lab.connect())
    return conn, queueing.register(conn)


def _round(
    labs: Sequence[Lab], drivers: Sequence[tuple[Connection, str]], jobs: int, batch: int
) -> list[float]:
    """Add so many jobs in each place and drain them, a batch here and a batch there.

    So a slow moment of the machine hits all of them; returns the rate of each.
    """
    for lab in labs:
        queueing.fill(lab, jobs)
    spent = [0.0] * len(drivers)
    for _ in range(0, jobs, batch):
        for number, (conn, runner) in enumerate(drivers):
            began = time.monotonic()
            if not queueing.claim_and_complete(conn, runner, batch):
                raise RuntimeError("a queue was empty before it was drained")
            spent[number] += time.monotonic() - began
    return [jobs / seconds for seconds in spent]


def heartbeats(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S11: one heartbeat statement for all running jobs of a runner."""
    count = plan.heartbeats
    queueing.fill(lab, count)
    with lab.connect() as conn:
        runner = queueing.register(conn)
        beats = _claim_all(conn, runner, count)
        times = []
        before = _hot(conn)
        for _ in range(5):
            began = time.monotonic()
            conn.execute("select count(*) from persona.heartbeats(%s, %s)", (runner, beats))
            times.append(time.monotonic() - began)
            # Between two heartbeats autovacuum has half a minute.
            conn.execute("vacuum persona.job_leases")
        after = _hot(conn)
    queueing.empty(lab)
    updates, hot = after[0] - before[0], after[1] - before[1]
    yield Row(
        "S11", f"one heartbeat statement for {count:,} jobs", sorted(times)[2] * 1000, "ms",
        bar=100, better="less",
    )  # fmt: skip
    yield Row("S11", "of its updates HOT", hot / max(1, updates) * 100, "%", bar=95)


def _claim_all(conn: Connection, runner: str, count: int) -> str:
    row = conn.execute(
        "select json_agg(json_build_object('job_id', c.id, 'lease', c.lease, 'pid', 1,"
        " 'cpu_percent', 1.5, 'memory_mb', 20)) from persona.claim_jobs(%s, %s) as c",
        (runner, count),
    ).fetchone()
    return json.dumps(row[0] if row else [])


def _hot(conn: Connection) -> tuple[int, int]:
    conn.execute("select pg_stat_force_next_flush()")
    row = only_row(
        conn,
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables"
        " where schemaname = 'persona' and relname = 'job_leases'",
    )
    return int(row[0]), int(row[1])


def _drain_by(lab: Lab, jobs: int, connections: int, batch: int) -> float:
    queueing.fill(lab, jobs)
    queueing.settle_statistics(lab)

    def work(conn: Connection) -> None:
        queueing.drain(conn, queueing.register(conn), batch)

    rate = jobs / _seconds_of(lab, connections, work)
    queueing.empty(lab)
    return rate


def _bare_drain(lab: Lab, jobs: int, connections: int) -> float:
    _fill_bare(lab, jobs)

    def work(conn: Connection) -> None:
        while conn.execute(_BARE_BATCH, (BATCH,)).rowcount:
            pass

    return jobs / _seconds_of(lab, connections, work)


def _seconds_of(lab: Lab, connections: int, work: Callable[[Connection], None]) -> float:
    """Let threads work at once, each with a connection; returns how long all of them took."""
    ready = threading.Barrier(connections + 1)

    def one() -> None:
        with lab.connect() as conn:
            ready.wait()
            work(conn)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def _fill_bare(lab: Lab, rows: int) -> None:
    with lab.connect() as conn:
        conn.execute(_BARE_TABLE)
        conn.execute("truncate bench_queue")
        conn.execute(_BARE_FILL, (rows,))
        conn.execute("vacuum (analyze) bench_queue")


def _make_pending(lab: Lab, pending: int) -> None:
    """Put pending jobs there at once, as the owner may: to create ten million takes long."""
    _insert(lab, pending, _PENDING)


def _make_history(lab: Lab, finished: int) -> None:
    """Put finished jobs into the history at once: claiming them takes hours."""
    _insert(lab, finished, _FINISHED)


def _insert(lab: Lab, count: int, statement: str) -> None:
    body = json.dumps({"prompt": "x" * 200})
    with lab.connect() as conn:
        for begin in range(0, count, _PIECE):
            conn.execute(
                statement, {"agent": AGENT, "body": body, "count": min(_PIECE, count - begin)}
            )


@contextmanager
def _snapshot(lab: Lab) -> Iterator[None]:
    """Hold a snapshot open, as a forgotten transaction or a long report does."""
    with lab.connect(autocommit=False) as conn:
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("select count(*) from persona.settings")
        yield
        conn.rollback()
