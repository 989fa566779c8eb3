"""Priorities that do not starve, and waiting for a provider that comes to an end."""

from __future__ import annotations

from datetime import timedelta

import pytest

HOUR = timedelta(hours=1)


def waited(queue, job, how_long):
    """Let a job have waited that long already."""
    queue.run("update persona.jobs set created_at = created_at - %s, run_at = run_at - %s"
              " where id = %s", how_long, how_long, job["id"])  # fmt: skip


def order(queue, runner):
    """Claim one after the other; in one claim they start together."""
    found = []
    while runs := queue.claim(runner):
        found += [run["id"] for run in runs]
    return found


def test_a_job_that_waits_rises_a_step_an_hour_and_its_priority_stays(queue, runner):
    low, lower = queue.create(priority=0), queue.create(priority=-5)
    high = queue.create(priority=3)
    waited(queue, low, 3 * HOUR)
    waited(queue, lower, 4 * HOUR)
    queue.call("tick")
    assert "ready: 0 job(s)" in queue.explain(low)
    assert queue.job(low)["priority"] == 0
    assert order(queue, runner) == [j["id"] for j in (low, high, lower)]


def test_nothing_rises_above_what_would_go_before_it(queue, runner):
    old, older = queue.create(priority=0), queue.create(priority=1)
    waited(queue, old, 100 * HOUR)
    waited(queue, older, 50 * HOUR)
    queue.call("tick")
    newer = queue.create(priority=2)
    assert order(queue, runner) == [j["id"] for j in (newer, old, older)]


def test_a_steady_stream_of_urgent_jobs_keeps_no_old_one_waiting(queue, runner):
    starving = queue.create(priority=0)
    started = []
    while starving["id"] not in started:
        queue.create(priority=9)
        queue.create(priority=9)
        waited(queue, starving, HOUR)
        queue.call("tick")
        [run] = queue.claim(runner)
        queue.report(runner, run)
        started.append(run["id"])
        assert len(started) < 20
    assert len(started) == 9, "it had to rise by nine steps"


def test_what_has_risen_from_below_hides_nothing_that_may_rise_on(queue, runner):
    queue.call("create_jobs", jobs=[{"job_type": "t", "agent": "a"}] * 510)
    queue.run("update persona.jobs set created_at = created_at - interval '90 min',"
              " run_at = run_at - interval '90 min'")  # fmt: skip
    queue.create(priority=9)
    queue.call("tick")
    hidden = queue.create(priority=1)
    waited(queue, hidden, timedelta(minutes=70))
    queue.call("tick")
    assert "ready: 1 job(s)" in queue.explain(hidden)


def test_ageing_is_settable_and_off_at_nothing(queue, runner):
    queue.one("set_setting", name="priority_ageing_seconds", value="60")
    jobs = [queue.create(priority=p) for p in (0, 5)]
    waited(queue, jobs[0], timedelta(minutes=5))
    queue.one("set_setting", name="priority_ageing_seconds", value="0")
    queue.call("tick")
    assert queue.claim(runner)[0]["id"] == jobs[1]["id"]
    jobs.append(queue.create(priority=5))
    queue.one("set_setting", name="priority_ageing_seconds", value="60")
    queue.call("tick")
    assert order(queue, runner) == [jobs[0]["id"], jobs[2]["id"]]


def test_what_is_parked_for_a_limit_rises_among_the_parked(queue, runner):
    queue.one("set_limit", name="type:t", max_running=1)
    run = queue.start(runner)
    low, high = queue.create(priority=0), queue.create(priority=4)
    assert queue.claim(runner, 5) == []
    waited(queue, low, 5 * HOUR)
    queue.claim(runner, 5)
    queue.call("tick")
    queue.report(runner, run)
    assert [r["id"] for r in queue.claim(runner, 5)] == [low["id"]]
    assert queue.status(high) == "pending"


@pytest.mark.parametrize("bound", ["times", "time"])
def test_waiting_for_a_provider_comes_to_an_end(queue, runner, bound):
    queue.one("set_setting", name="max_waits", value="3" if bound == "times" else "0")
    job = queue.create(max_attempts=1)

    def refuse():
        queue.make_due(job)
        [run] = queue.claim(runner)
        queue.report(runner, run, "rate_limited", failure_kind="rate_limited", error="429")

    for _ in range(3):
        refuse()
        assert queue.status(job) == "pending"
    if bound == "time":
        queue.run("update persona.job_attempts set ended_at = ended_at - interval '8 days'")
    refuse()
    row = queue.job(job)
    assert (row["status"], row["attempt"], row["failure_kind"]) == ("held", 0, "rate_limited")
    said = "has waited 3 times in a row" if bound == "times" else "has waited since "
    assert row["status_reason"].startswith(said)
    [alert] = queue.alerts()
    assert (alert["kind"], alert["job_id"]) == ("job_held", job["id"])

    queue.act("release_job", job)
    refuse()
    assert queue.status(job) == "pending", "a person has let it wait again"
