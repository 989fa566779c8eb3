"""Resource limits: kept from a job's first instruction on, and named where they end it."""

from __future__ import annotations

import json
import os
import signal
import sys

import psutil
import pytest

MEGABYTE = 1 << 20
LIMITED = {"memory_limit": 64 * MEGABYTE, "process_limit": 20}
# Each piece is written to: what is only reserved is not used.
HUNGRY = "kept = [b'x' * (1 << 20) for _ in range(200)]; import time; time.sleep(1000)"
# 10 children of a parent with 40 MB: they share it, and nobody writes to it.
SHARING = """
import os, time
kept = b"x" * (40 << 20)
for _ in range(10):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
for _ in range(10): os.wait()
print("shared")
"""
# Bounded, so that a broken limit does not end the test machine.
BOMB = """
import os, time
for _ in range(6):
    os.fork()
time.sleep(1000)
"""
ABOUT_ME = """
import json, os, resource, signal
print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE),
                  resource.getrlimit(resource.RLIMIT_FSIZE), os.nice(0),
                  len(os.sched_getaffinity(0))]), flush=True)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
open("big", "wb").write(b"x" * 100000)
"""


@pytest.fixture
def limited(conn, jobs, worker, ready, tmp_path):
    """Start a worker; make jobs of an agent with the given limits."""
    ready(worker("--concurrency", "5"))

    def start(name, code, **limits):
        register = (
            "select persona.register_agent(%s, argv => %s, workdir => %s, max_attempts => 1,"
            " admin_only => true)"
        )
        conn.execute(register, (name, ["{payload.argv...}"], str(tmp_path)))
        conn.execute("select persona.update_agent(%s, %s)", (name, json.dumps(limits)))
        return jobs.python(code, agent=name)

    return start


def nobody_left(jobs, job):
    mark = str(job)
    return [
        process.pid
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("PERSONA_JOB_ID") == mark
    ]


def test_a_job_over_its_limits_is_killed_and_its_error_says_which_one(limited, jobs):
    hungry = limited("hungry", HUNGRY, **LIMITED)
    bomb = limited("bomb", BOMB, **LIMITED)
    sharing = limited("sharing", SHARING, **LIMITED)

    row = jobs.end(hungry)
    assert (row.status, row.error) == ("failed", "out of memory (limit 64 MB)")
    assert row.failure_kind == "crashed"
    [killed, used] = jobs.lines(hungry, "system")
    assert killed == "out of memory (limit 64 MB); SIGKILL"
    assert used.startswith("out of memory (limit 64 MB): there were 1 process(es) with ")

    row = jobs.end(bomb)
    assert (row.status, row.error) == ("failed", "too many processes (limit 20)")
    assert nobody_left(jobs, bomb) == []

    row = jobs.end(sharing)
    assert (row.status, jobs.lines(sharing)) == ("completed", ["shared"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to processors")
def test_what_the_kernel_keeps_is_set_before_the_program_begins(limited, jobs):
    job = limited(
        "framed", ABOUT_ME, open_files_limit=64, file_size_limit=8192, nice=7, cpu_limit=0.5
    )
    row = jobs.end(job)
    files, size, nice, processors = json.loads(jobs.lines(job)[0])
    assert (files, size) == ([64, 64], [8192, 8192]), "the hard ones too: node raises the soft one"
    assert (nice, processors) == (os.nice(0) + 7, 1)
    assert (row.status, row.error) == ("failed", "file too large (limit 8 kB)")
    assert row.exit_code in {-signal.SIGXFSZ, 128 + signal.SIGXFSZ}


def test_a_program_that_is_missing_is_still_named_so(limited, jobs, conn):
    job = limited("gone", "", nice=5)
    conn.execute("select persona.update_agent('gone', '{\"argv\": [\"no-such-program\"]}')")
    again = jobs.python("", agent="gone")
    jobs.end(job)
    assert "'no-such-program' not found on PATH" in jobs.end(again).error
