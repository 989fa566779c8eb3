"""What went wrong with the first system's processes, once each; the numbers are the design's."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pgtest
import psutil
from proctest import STUBBORN, is_alive

from persona_pg.runner import procfs


def test_01_the_kill_of_the_process_tree_reaches_the_whole_tree(world):
    """There only the shell died."""
    job = world.sh(STUBBORN)
    lines = pgtest.eventually(lambda: len(found := world.said(job)) == 2 and found)
    pids = [int(line.split()[1]) for line in lines]

    world.queue.cancel_job(job)

    assert world.end(job).status == "cancelled"
    assert [pid for pid in pids if is_alive(pid)] == []


def test_02_a_timeout_fires_for_the_program_that_runs(world):
    """There the timer watched another child, and never fired."""
    began = time.monotonic()
    # A shell with a program below it, as the first system started its agents.
    job = world.end(world.sh("sleep 60; echo not reached", timeout=timedelta(seconds=0.5)))

    assert (job.status, job.failure_kind) == ("failed", "timeout")
    assert time.monotonic() - began < 20


def test_03_a_failing_agent_is_reported_and_ends_nothing_else(world):
    """There `set -e` ended the driver script before it could report."""
    failed = world.end(world.sh("exit 3"))
    missing = world.end(world.queue.create_job("command", {"argv": ["/no/such/program"]}).id)
    after = world.end(world.sh("exit 0"))

    assert (failed.status, failed.exit_code) == ("failed", 3)
    assert (missing.status, missing.failure_kind) == ("failed", "not_found")
    assert after.status == "completed"


def test_05_a_second_start_looks_first_and_leaves_the_running_agent_alone(world):
    """There it killed the running agent, and looked at the lock afterwards."""
    go_on = world.folder / "go on"
    job = world.sh(f'while [ ! -e "{go_on}" ]; do sleep 0.05; done')
    world.until(job, "running")

    second = world.worker("first")

    assert second.wait() == 75
    go_on.touch()
    row = world.end(job)
    assert (row.status, row.attempt, row.interruptions) == ("completed", 1, 0)


def test_06_one_request_is_one_job_and_the_question_arrives(world):
    """There dispatch created a second job, and never passed the question on."""
    before = world.queue.job_summary().completed
    question = "Why is the sky blue?"

    made = world.queue.create_job("research", {"question": question}, agent="echo", max_attempts=1)

    row = world.end(made.id)
    assert row.status == "completed"
    assert world.said(made.id) == [question]
    assert world.queue.job_summary().completed == before + 1
    assert len(world.queue.get_attempts(made.id)) == 1


def test_12_the_exit_code_decides_and_no_text_in_the_output(world):
    """There success was a marker anywhere in the output."""
    boasts = world.sh('echo "Execution completed successfully"; echo COMPLETED; exit 1')
    complains = world.sh('echo "ERROR: failed with exit code 1" >&2; exit 0')

    assert world.end(boasts).status == "failed"
    assert world.end(complains).status == "completed"


def test_13_a_process_is_more_than_its_number(world):
    """There bare pids were kept, and a reused one got a stranger killed."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        started = procfs.start_time(stranger.pid)
        # The number is right, but what was recorded had begun at another time.
        assert not procfs.signal_process(stranger.pid, started - 1, signal.SIGKILL)
        # Or had another mark.
        assert not procfs.signal_process(stranger.pid, started, signal.SIGKILL, token=12345)
        assert stranger.poll() is None

        assert procfs.signal_process(stranger.pid, started, signal.SIGKILL)
        assert stranger.wait(5) == -signal.SIGKILL


def test_15_output_is_bounded_in_memory_and_in_the_database(world):
    """There it was buffered without bound."""
    job = world.sh("head -c 100000000 /dev/zero | tr '\\0' x")

    assert world.end(job).status == "completed"
    lines = list(world.queue.iter_logs(job))
    assert sum(len(line.message) for line in lines if line.stream == "stdout") <= 1 << 20
    assert any(line.stream == "system" and line.level == "warn" for line in lines)
    [runner] = psutil.Process(world.first.pid).children()
    status = Path(f"/proc/{runner.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 100 * 1024


def test_16_no_shell_sees_a_prompt(world):
    """There a prompt went through one."""
    mark = world.folder / "made by a prompt"
    prompt = f"$(touch '{mark}') `touch '{mark}'`; touch '{mark}' & \"'\\ $HOME\n$(exit 1)"

    job = world.queue.create_job("x", {"prompt": prompt}, agent="echo", max_attempts=1).id

    assert world.end(job).status == "completed"
    assert "\n".join(world.said(job)) == prompt
    assert not mark.exists()
