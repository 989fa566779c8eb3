"""pgqueuer: bulk enqueue, drain of no-op jobs, latency, `true` as a subprocess.

Run by the interpreter that has pgqueuer and asyncpg (its faster driver): DSN TASK ARGUMENTS.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = 1000
PAYLOAD = b"x" * 200


async def _connect() -> Any:
    return await asyncpg.connect()


async def _fill(jobs: int) -> float:
    conn = await _connect()
    queries = Queries(AsyncpgDriver(conn))
    began = time.monotonic()
    for _ in range(max(1, jobs // BATCH)):
        await queries.enqueue(["bench"] * BATCH, [PAYLOAD] * BATCH, [0] * BATCH)
    rate = max(1, jobs // BATCH) * BATCH / (time.monotonic() - began)
    await conn.close()
    return rate


async def _work(handler: Any, batch: int, concurrency: int | None = None) -> None:
    conn = await _connect()
    worker = PgQueuer(AsyncpgDriver(conn))
    worker.entrypoint("bench")(handler)
    await worker.run(
        dequeue_timeout=timedelta(seconds=1),
        batch_size=batch,
        mode=QueueExecutionMode.drain,
        max_concurrent_tasks=concurrency,
    )
    await conn.close()


async def _drain(jobs: int, workers: int) -> float:
    await _fill(jobs)
    done, last = 0, time.monotonic()

    async def handler(job: Any) -> None:
        nonlocal done, last
        del job
        done += 1
        last = time.monotonic()

    began = time.monotonic()
    await asyncio.gather(*(_work(handler, BATCH) for _ in range(workers)))
    return done / (last - began)


async def _true(jobs: int, concurrency: int) -> float:
    await _fill(jobs)
    done, last = 0, time.monotonic()

    async def handler(job: Any) -> None:
        nonlocal done, last
        del job
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        done += 1
        last = time.monotonic()

    began = time.monotonic()
    # Its limit of tasks has to be twice the batch.
    await _work(handler, max(1, concurrency // 2), max(2, concurrency))
    return done / (last - began)


async def _latency(jobs: int) -> dict[str, float]:
    conn = await _connect()
    worker = PgQueuer(AsyncpgDriver(conn))
    begun: asyncio.Queue[float] = asyncio.Queue()

    @worker.entrypoint("bench")
    async def handler(job: Any) -> None:
        del job
        begun.put_nowait(time.monotonic())

    running = asyncio.create_task(worker.run(dequeue_timeout=timedelta(seconds=30)))
    await asyncio.sleep(1)
    other = await _connect()
    queries = Queries(AsyncpgDriver(other))
    times = []
    for _ in range(jobs):
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await queries.enqueue("bench", PAYLOAD)
        times.append((await begun.get() - began) * 1000)
    worker.shutdown.set()
    running.cancel()
    return {"p50": statistics.median(times), "p99": sorted(times)[int(len(times) * 0.99)]}


async def main() -> None:
    """Do one task and print its figure."""
    task, arguments = sys.argv[2], json.loads(sys.argv[3])
    conn = await _connect()
    await Queries(AsyncpgDriver(conn)).install()
    await conn.close()
    if task == "latency":
        answer = await _latency(arguments["jobs"])
    elif task == "bulk":
        answer = {"rate": await _fill(arguments["jobs"])}
    elif task == "drain":
        answer = {"rate": await _drain(arguments["jobs"], arguments["workers"])}
    else:
        answer = {"rate": await _true(arguments["jobs"], arguments["concurrency"])}
    print(json.dumps(answer), flush=True)
    # A worker takes a minute and more to end after it was asked to.
    os._exit(0)


asyncio.run(main())
