"""Jobs handed to a Slurm cluster by a launcher: signals and exit codes come through.

bin/test --cluster tests/cluster/test_slurm.py -s    (Debian: apt-get install slurm-wlm munge)
"""

from __future__ import annotations

from collections import Counter

import psutil
from pgtest import eventually
from psycopg.types.json import Jsonb
from sqltest import Queue


def test_twenty_jobs_through_srun_and_nothing_is_left_behind(slurm, worker, conn, capsys):
    queue = Queue(conn)
    queue.one(
        "register_agent", name="batch", argv=["sh", "-c", "{prompt}"], launcher=["srun", "--quiet", "-n1"],
        env=Jsonb({"SLURM_CONF": str(slurm.conf)}), max_attempts=1, admin_only=True,
    )  # fmt: skip

    def create(script, **options):
        return queue.create("t", agent="batch", payload={"prompt": script}, **options)

    ends = [
        create(f"echo in step $SLURM_STEP_ID of $SLURM_JOB_ID; exit {n % 3}") for n in range(18)
    ]
    cancelled = create("sleep 1000 & sleep 1001")
    late = create("sleep 1002", timeout="6 s")
    one = worker("-c", 6)
    eventually(
        lambda: queue.status(cancelled) == "running" and "1001" in _sleeping(), 60, what=one.output
    )
    running = slurm.ask("squeue", "-h", "-o", "%i %j %T")
    queue.act("cancel_job", cancelled)
    every = [*ends, cancelled, late]
    eventually(lambda: all(queue.job(j)["completed_at"] for j in every), 120, what=one.output)
    eventually(lambda: slurm.ask("squeue", "-h") == "", 30, what=lambda: slurm.ask("squeue"))
    steps = slurm.ask("squeue", "-s", "-h")

    rows = [queue.job(job) for job in every]
    outcome = [
        (queue.attempts(job)[-1]["outcome"], queue.job(job)["exit_code"])
        for job in (cancelled, late)
    ]
    with capsys.disabled():
        print(f"\nwhile the last two ran, squeue: {running.strip()!r}")
        print("20 jobs through srun:", dict(Counter((r["status"], r["exit_code"]) for r in rows)))
        print(f"cancelled: {outcome[0]}, timed out: {outcome[1]}")
        print(
            f"squeue: {slurm.ask('squeue').strip()!r}; steps: {steps!r}; processes left: {_sleeping()}"
        )
    assert [row["exit_code"] for row in rows[:18]] == [n % 3 for n in range(18)]
    assert outcome[0][0] == "cancelled"
    assert outcome[1][0] == "timeout"
    assert steps == ""
    assert _sleeping() == []
    log = "select string_agg(message, '') from persona.job_logs where job_id = %s"
    assert "in step 0 of" in queue.value(log, ends[0]["id"])


def _sleeping() -> list[str]:
    return [
        p.info["cmdline"][1]
        for p in psutil.process_iter(["cmdline"])
        if (p.info["cmdline"] or [""])[0] == "sleep"
        and p.info["cmdline"][1:2] in (["1000"], ["1001"], ["1002"])
    ]
