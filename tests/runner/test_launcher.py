"""An agent's launcher (srun, ssh, docker run) is watched in the program's place."""

from __future__ import annotations

import pytest
from pgtest import eventually

# As srun does it: the program is elsewhere, SIGTERM is handed on, its exit code is ours.
LAUNCHER = (
    "/bin/sh", "-c",
    'trap \'kill $far; wait $far; exit $?\' TERM; setsid "$@" & far=$!; wait $far', "far",
)  # fmt: skip


@pytest.fixture
def far(jobs, worker):
    """Create jobs of an agent that is started by a launcher, with a runner for them."""
    jobs.conn.execute(
        "select persona.register_agent('far', argv => %s, launcher => %s, admin_only => true,"
        " max_attempts => 1)",
        (["sh", "-c", "{prompt}"], list(LAUNCHER)),
    )
    worker()
    return lambda script, **options: jobs.create("t", {"prompt": script}, agent="far", **options)


def test_its_exit_code_is_the_programs(far, jobs):
    assert jobs.end(far("exit 7")).exit_code == 7


def test_a_cancel_reaches_the_program_behind_it(far, jobs, tmp_path):
    told = tmp_path / "told"
    wait = f"touch {tmp_path}/started; while :; do sleep 0.1; done"
    job = far(f"trap 'echo ended > {told}; exit 3' TERM; {wait}")
    eventually((tmp_path / "started").exists, 60)
    jobs.cancel(job)
    assert jobs.end(job).status == "cancelled"
    assert told.read_text() == "ended\n"
