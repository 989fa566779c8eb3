# ruff: noqa: PLR0917 - fixtures are arguments
"""P8: whatever a job prints, the runner stays small and the job is not kept waiting for nothing."""

from __future__ import annotations

import signal
import time

import pytest

MEGABYTE = 1 << 20


@pytest.fixture
def bounded(worker, ready, runner_pid):
    """A worker with a small log limit: (worker, runner's pid)."""

    def start(**env):
        one = ready(worker(env={"JOB_OUTPUT_LIMIT": "1MB"} | env))
        return one, runner_pid(one)

    return start


def test_one_endless_line_nuls_and_broken_utf8(bounded, jobs, peak_rss):
    _, pid = bounded()
    code = """
import os
piece = b"x" * (1 << 20)
for _ in range(200): os.write(1, piece)
os.write(1, b"\\0" * 1000000 + b"\\n")
os.write(1, b"\\xff\\xfe\\xc3\\x28\\n" * 1000)
os.write(2, b"caf\\xc3\\xa9 \\xff \\x00 end\\n")
"""
    job = jobs.python(code)
    row = jobs.end(job, timeout=60)
    assert (row.status, row.exit_code) == ("completed", 0)
    logged = jobs.lines(job)
    assert sum(len(line) for line in logged) == MEGABYTE
    assert set("".join(logged)) == {"x"}
    assert jobs.lines(job, "stderr") == ["caf\u00e9 \ufffd \ufffd end"]
    cut, rest = jobs.lines(job, "system")
    assert cut == f"stdout is cut here: more than {MEGABYTE} bytes"
    assert rest == f"{200 * MEGABYTE + 1000001 + 5000 - MEGABYTE} bytes of stdout were discarded"
    assert peak_rss(pid) < 100 * MEGABYTE


def test_what_is_within_the_limit_is_stored_as_text_whatever_it_is(bounded, jobs):
    bounded()
    job = jobs.python(
        'import os; os.write(1, b"a\\0b\\n\\xf0\\x9f\\x8e\\x89\\n\\xff\\n\\xed\\xa0\\x80\\n\\\\u0000\\n")'
    )
    jobs.end(job)
    found = jobs.lines(job)
    assert found[:3] == ["a\ufffdb", "\U0001f389", "\ufffd"]
    assert set(found[3]) == {"\ufffd"}
    assert found[4] == "\\u0000"


def test_five_million_short_lines_beyond_the_cap(bounded, jobs, peak_rss):
    _, pid = bounded(JOB_OUTPUT_LIMIT="100kB")
    began = time.monotonic()
    job = jobs.sh("seq 1 5000000")
    row = jobs.end(job, timeout=60)
    assert row.status == "completed"
    assert time.monotonic() - began < 30
    logged = jobs.lines(job)
    assert logged[:18000] == [str(n) for n in range(1, 18001)]
    assert len(logged) < 20000
    assert peak_rss(pid) < 100 * MEGABYTE


def test_a_million_empty_lines(bounded, jobs, peak_rss, conn):
    """The worst ratio of what a line costs here to what it costs the job."""
    _, pid = bounded(JOB_OUTPUT_LIMIT="300kB")
    job = jobs.python('import os; os.write(1, b"\\n" * 1000000)')
    assert jobs.end(job, timeout=60).status == "completed"
    count = conn.execute(
        "select count(*) from persona.job_logs where job_id = %s and stream = 'stdout'", (job,)
    ).fetchone()[0]
    assert count == 300 * 1024
    assert peak_rss(pid) < 100 * MEGABYTE


def test_a_slow_database_holds_a_fast_printer_back(
    worker, jobs, proxy, ready, runner_pid, peak_rss
):
    settings = {"PERSONA_DATABASE_URL": proxy.dsn, "JOB_OUTPUT_LIMIT": "1GB"}
    one = ready(worker(env=settings))
    pid = runner_pid(one)
    proxy.bytes_per_second = 3_000_000
    # 80 MB of log would take half a minute; they do not fit into what the runner may keep.
    talker = jobs.sh(
        "echo begun; yes 'a line of some length, as programs print them' | head -c 80000000"
    )
    jobs.first_line(talker)
    other = jobs.sh("sleep 0.5; echo other")
    time.sleep(6)
    assert jobs.row(talker).status == "running"
    assert jobs.row(other).status in {"running", "completed"}
    assert peak_rss(pid) < 100 * MEGABYTE
    jobs.cancel(talker, force=True)
    proxy.bytes_per_second = None
    assert jobs.end(talker, timeout=60).status == "cancelled"
    assert jobs.end(other).status == "completed"
    assert jobs.lines(other) == ["other"]
    lines = jobs.lines(talker)
    assert lines[0] == "begun"
    assert all(line.startswith("a line of some") for line in lines[1:-1])
    assert peak_rss(pid) < 100 * MEGABYTE


def test_a_job_that_closes_its_outputs_runs_on(bounded, jobs):
    bounded()
    job = jobs.sh("exec >&- 2>&-; sleep 1; exit 6", max_attempts=1)
    began = time.monotonic()
    assert jobs.end(job).exit_code == 6
    assert time.monotonic() - began >= 1


def test_a_stop_is_prompt_while_the_job_floods(bounded, jobs):
    bounded()
    job = jobs.sh("exec yes")
    jobs.first_line(job)
    jobs.cancel(job)
    row = jobs.end(job)
    # It was asked to end, and had not to be killed when its grace was over.
    assert (row.status, row.exit_code) == ("cancelled", 128 + signal.SIGTERM)
