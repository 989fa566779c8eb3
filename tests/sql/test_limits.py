"""Resource limits of agents: kept on their row, and told to the runner with each job."""

from __future__ import annotations

import pytest
from sqltest import refused

LIMITS = {
    "memory_limit": 512 << 20,
    "cpu_limit": 1.5,
    "process_limit": 50,
    "open_files_limit": 256,
    "file_size_limit": 1 << 30,
    "nice": 10,
}


def test_a_claimed_job_brings_the_limits_of_its_agent(queue, runner):
    queue.agent(**LIMITS)
    queue.agent("free")
    queue.create(priority=2)
    queue.create(agent="free")
    limited, free = queue.claim(runner, 2)
    assert limited["resource_limits"] == {
        "memory": 512 << 20,
        "cpu": 1.5,
        "processes": 50,
        "open_files": 256,
        "file_size": 1 << 30,
        "nice": 10,
    }
    assert free["resource_limits"] is None


def test_a_limit_can_be_taken_away(queue, runner):
    queue.agent(nice=5, memory_limit=1 << 30)
    queue.call("update_agent", name="a", changes={"memory_limit": None})
    queue.create()
    [job] = queue.claim(runner)
    assert job["resource_limits"] == {"nice": 5}


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("memory_limit", 1000),
        ("cpu_limit", 0),
        ("process_limit", 0),
        ("open_files_limit", 3),
        ("file_size_limit", 0),
        ("nice", -5),
    ],
)
def test_a_limit_that_nothing_can_live_with_is_refused(queue, limit, value):
    with refused("PJ422", limit):
        queue.agent(**{limit: value})
