"""procrastinate: bulk defer, drain of no-op jobs, latency, `true` as a subprocess.

Run by the interpreter that has procrastinate: DSN TASK ARGUMENTS.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import procrastinate

BATCH = 1000
PAYLOAD = "x" * 200

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=sys.argv[1]))
begun: asyncio.Queue[float] = asyncio.Queue()
ended: list[float] = []


@app.task(name="noop")
async def noop(body: str) -> None:
    """Do nothing."""
    del body
    ended.append(time.monotonic())


@app.task(name="true")
async def true(body: str) -> None:
    """Run a program that does nothing."""
    del body
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    ended.append(time.monotonic())


@app.task(name="tell")
async def tell(body: str) -> None:
    """Say that it has begun."""
    del body
    begun.put_nowait(time.monotonic())


async def _fill(task: Any, jobs: int) -> float:
    began = time.monotonic()
    for _ in range(max(1, jobs // BATCH)):
        await task.batch_defer_async(*({"body": PAYLOAD} for _ in range(BATCH)))
    return max(1, jobs // BATCH) * BATCH / (time.monotonic() - began)


async def _drain(task: Any, jobs: int, workers: int, concurrency: int) -> float:
    # It needs minutes for what the others do in a second: a tenth tells the rate as well.
    await _fill(task, max(BATCH, jobs // 10))
    began = time.monotonic()
    await asyncio.gather(
        *(
            app.run_worker_async(wait=False, concurrency=concurrency, install_signal_handlers=False)
            for _ in range(workers)
        )
    )
    return len(ended) / (ended[-1] - began)


async def _latency(jobs: int) -> dict[str, float]:
    worker = asyncio.create_task(app.run_worker_async(concurrency=3, install_signal_handlers=False))
    await asyncio.sleep(1)
    times = []
    for _ in range(jobs):
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await tell.defer_async(body=PAYLOAD)
        times.append((await begun.get() - began) * 1000)
    worker.cancel()
    return {"p50": statistics.median(times), "p99": sorted(times)[int(len(times) * 0.99)]}


async def main() -> None:
    """Do one task and print its figure."""
    task, arguments = sys.argv[2], json.loads(sys.argv[3])
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        if task == "latency":
            print(json.dumps(await _latency(arguments["jobs"])))
            return
        if task == "bulk":
            rate = await _fill(noop, arguments["jobs"])
        elif task == "drain":
            rate = await _drain(noop, arguments["jobs"], arguments["workers"], 10)
        else:
            concurrency = arguments["concurrency"]
            rate = await _drain(true, arguments["jobs"] * 10, 1, concurrency)
        print(json.dumps({"rate": rate}))


asyncio.run(main())
