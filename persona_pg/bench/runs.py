"""Runs of a real runner: starting programs, waiting for work, reading what jobs print."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from persona_pg import connections
from persona_pg.bench import queueing
from persona_pg.bench.lab import AGENT, Lab
from persona_pg.bench.model import Better, Row, Series, percentile
from persona_pg.bench.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from persona_pg.bench.plan import Plan

_CONCURRENCIES = (3, 16)
_PATIENCE = 60.0


def true_jobs(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S9: jobs that run `true`, from the claim to the recorded end, through one runner."""
    for concurrency in _CONCURRENCIES:
        bare = asyncio.run(_bare_spawns(plan.spawned, concurrency))
        queueing.fill(lab, plan.spawned)
        queueing.settle_statistics(lab)
        with _worker(lab, "--drain", "--concurrency", str(concurrency)) as worker:
            worker.wait()
        with lab.connect() as conn:
            row = connections.only_row(
                conn,
                "select count(*), extract(epoch from max(j.completed_at) - min(j.started_at))"
                " from persona.jobs as j where j.status = 'completed'",
            )
        if row[0] < plan.spawned:
            raise RuntimeError(f"only {row[0]} of {plan.spawned} jobs completed")
        queueing.empty(lab)
        yield Row(
            "S9", f"`true` through a runner, {concurrency} at once",
            row[0] / float(row[1]), "jobs/s",
            bare, "bare asyncio with pipes", 0.65,
        )  # fmt: skip


def latency(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S6: from the call of create_job to the first thing the program does, on an idle system."""
    fifo = lab.folder / "begun"
    os.mkfifo(fifo)
    # Opened for both, so that it never comes to an end between two writers.
    reader = os.open(fifo, os.O_RDWR)
    times = []
    commit = []
    try:
        with lab.connect() as conn, _worker(lab, "--concurrency", "3") as worker:
            conn.execute(
                "select name from persona.register_agent('bench-begun', argv => %s)",
                (["/bin/sh", "-c", f"echo 1 > {fifo}"],),
            )
            conn.execute("create table if not exists bench_commit (at timestamptz)")
            for _ in range(plan.latencies):
                _until(lambda: _is_idle(lab), worker)
                # What asked for that has to end too, its server process and what the runner does
                # on its way to sleep.
                time.sleep(0.05)
                began = time.monotonic()
                conn.execute("insert into bench_commit values (now())")
                commit.append((time.monotonic() - began) * 1000)
                began = time.monotonic()
                conn.execute("select id from persona.create_job('bench', agent => 'bench-begun')")
                os.read(reader, 1)
                times.append((time.monotonic() - began) * 1000)
                os.read(reader, 1)  # the end of the line
    finally:
        os.close(reader)
        fifo.unlink()
    queueing.empty(lab)
    alone = _shell_alone(plan.repeats)
    for percent, bar in ((50, 3.0), (99, 6.0)):
        yield Row(
            "S6", f"create to process started, p{percent}", percentile(times, percent), "ms",
            bar=bar, better="less",
            note=f"one durable insert {percentile(commit, percent):.1f} ms,"
            f" starting /bin/sh alone {alone:.1f} ms",
        )  # fmt: skip


def idle(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S10: what a runner costs that has nothing to do."""
    with (
        lab.connect() as conn,
        Relay(conn, lab.dsn) as relay,
        _worker(lab, dsn=relay.dsn) as worker,
    ):
        _until(lambda: _is_idle(lab), worker)
        # Until the net under its wake-ups is as wide as it gets.
        time.sleep(plan.idle_seconds * 2 / 3)
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        before = relay.statements, sum(_cpu(p) for p in family), time.monotonic()
        time.sleep(plan.idle_seconds)
        after = relay.statements, sum(_cpu(p) for p in family), time.monotonic()
        seconds = after[2] - before[2]
        memory, what = _memory(family)
        row = connections.only_row(
            conn,
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and application_name like 'persona-worker%'",
        )
    less: Better = "less"
    statements = (after[0] - before[0]) / seconds
    cpu = (after[1] - before[1]) / seconds * 100
    yield Row("S10", "idle runner: statements", statements, "/s", bar=0.25, better=less)
    yield Row("S10", "idle runner: CPU", cpu, "%", bar=0.05, better=less)
    yield Row(
        "S10",
        f"idle runner: memory of runner and guardian, {what}",
        memory,
        "MB",
        bar=35,
        better=less,
    )
    yield Row("S10", "idle runner: connections", float(row[0]), "", bar=1, better=less)


def output(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S12: log lines stored by append_logs, and output read beyond the cap."""
    yield _stored_lines(lab, plan.log_lines)
    with lab.connect() as conn:
        conn.execute(
            "select name from persona.register_agent('bench-output', argv => %s)",
            (["head", "-c", f"{plan.output_mb}M", "/dev/zero"],),
        )
        conn.execute("select id from persona.create_job('bench', agent => 'bench-output')")
        peaks: list[float] = []
        with _worker(lab, "--drain") as worker:
            while worker.poll() is None:
                peaks.append(_runner_memory(worker) / (1 << 20))
                time.sleep(0.05)
        row = connections.only_row(
            conn,
            "select extract(epoch from j.completed_at - j.started_at) from persona.jobs as j"
            " where j.agent = 'bench-output'",
        )
    queueing.empty(lab)
    yield Row(
        "S12", "output read beyond the cap", plan.output_mb / float(row[0]), "MB/s", bar=300,
        note=f"peak memory of the runner {max(peaks, default=0):.0f} MB",
    )  # fmt: skip


def memory_per_job(lab: Lab, plan: Plan) -> Iterator[Row | Series]:
    """S15: what each running job adds to the runner's memory."""
    count = plan.running
    with lab.connect() as conn, _worker(lab, "--concurrency", str(count)) as worker:
        _until(lambda: _is_idle(lab), worker)
        conn.execute(
            "select name from persona.register_agent('bench-sleep', argv => '{sleep,600}')"
        )
        # One before, so that what is loaded for the first job does not count.
        for jobs, wanted in ((1, 1), (count - 1, count)):
            before = _runner_memory(worker)
            conn.execute(
                "select count(persona.create_job('bench', agent => 'bench-sleep'))"
                " from generate_series(1, %s)",
                (jobs,),
            )
            _until(functools.partial(_have_started, lab, wanted), worker)
            time.sleep(2)  # their first heartbeat is part of it
        added = (_runner_memory(worker) - before) / 1024 / (count - 1)
        conn.execute("select persona.cancel_pending_jobs('bench')")
    queueing.empty(lab)
    yield Row("S15", f"memory of each of {count} running jobs", added, "KB", bar=100, better="less")


# -- a runner under measurement ---------------------------------------------------------------


@contextmanager
def _worker(lab: Lab, *arguments: str, dsn: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; from persona_pg.runner.main import main; sys.exit(main())"
    environment = lab.environment() | ({"PERSONA_DATABASE_URL": dsn} if dsn else {})
    log = (lab.folder / "worker.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--name", f"bench-{time.monotonic_ns()}", *arguments],
        env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield process
    finally:
        log.close()
        # Drain, then give back at once.
        for patience in (0.3, 20.0):
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()


def _until(check: Callable[[], bool], worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not check():
        if worker.poll() is not None:
            raise RuntimeError(f"the runner ended with exit code {worker.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError("the runner does not get ready")
        time.sleep(0.01)


def _is_idle(lab: Lab) -> bool:
    with lab.connect() as conn:
        row = conn.execute(
            "select exists (select from persona.idle_runners)"
            " and not exists (select from persona.job_leases)"
        ).fetchone()
    return row is not None and bool(row[0])


def _have_started(lab: Lab, count: int) -> bool:
    with lab.connect() as conn:
        row = connections.only_row(
            conn, "select count(*) from persona.job_leases as l where l.pid is not null"
        )
    return int(row[0]) == count


def _memory(family: Sequence[psutil.Process]) -> tuple[float, str]:
    """Return the megabytes of a program that has forked, and how they were counted."""
    if psutil.LINUX:
        return sum(p.memory_full_info().pss for p in family) / (1 << 20), "shared pages in parts"
    return sum(p.memory_info().rss for p in family) / (1 << 20), "shared pages in each"


def _runner_memory(worker: subprocess.Popen[bytes]) -> int:
    """Return the resident bytes of the runner: the child of the guardian that we started."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(worker.pid).children():
            return int(process.memory_info().rss)
    return 0


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _shell_alone(repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.monotonic()
        subprocess.run(["/bin/sh", "-c", ":"], check=True)
        times.append((time.monotonic() - began) * 1000)
    return percentile(times, 50)


async def _bare_spawns(count: int, concurrency: int) -> float:
    """Start `true` with both outputs as pipes, so many at once, and nothing else."""
    left = count

    async def lane() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            process = await asyncio.create_subprocess_exec(
                "true",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            await process.communicate()

    began = time.monotonic()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    return count / (time.monotonic() - began)


def _stored_lines(lab: Lab, lines: int) -> Row:
    batch = 1000
    with lab.connect() as conn:
        runner = queueing.register(conn)
        conn.execute("select id from persona.create_job('bench', agent => %s)", (AGENT,))
        row = connections.only_row(
            conn, "select id::text, lease from persona.claim_jobs(%s, 1)", (runner,)
        )
        texts = [
            json.dumps([
                {"job_id": row[0], "lease": row[1], "seq": first + i, "stream": "stdout",
                 "level": "info", "message": "a line of ordinary length from a program " * 2}
                for i in range(batch)
            ])
            for first in range(0, lines, batch)
        ]  # fmt: skip
        began = time.monotonic()
        for text in texts:
            conn.execute("select persona.append_logs(%s, %s)", (runner, text))
        seconds = time.monotonic() - began
        stored = connections.only_row(conn, "select count(*) from persona.job_logs")
    queueing.empty(lab)
    if stored[0] < lines:
        raise RuntimeError(f"only {stored[0]} of {lines} lines were stored")
    return Row("S12", "log lines stored", lines / seconds, "lines/s", bar=100_000)
