"""Jobs that wait for other jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqltest import refused


def finish(queue, runner, job, outcome="completed"):
    [run] = queue.claim(runner)
    assert run["id"] == job["id"]
    queue.report(runner, run, outcome)


def test_a_job_waits_for_all_it_needs(queue, runner):
    needs = [queue.create(max_attempts=1) for _ in range(3)]
    job = queue.create(depends_on=[n["id"] for n in needs] + [needs[0]["id"]])
    assert (job["status"], job["status_reason"]) == ("blocked", "waits for other jobs")

    for need in needs:
        assert queue.status(job) == "blocked"
        finish(queue, runner, need)

    assert queue.status(job) == "pending"
    assert queue.job(job)["status_reason"] is None
    finish(queue, runner, job)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_what_needs_a_job_that_did_not_succeed_fails_and_so_on(queue, runner, outcome):
    need = queue.create(max_attempts=1)
    job = queue.create(depends_on=[need["id"]])
    below = queue.create(depends_on=[job["id"]])
    far_below = queue.create(depends_on=[below["id"], need["id"]])

    finish(queue, runner, need, outcome)

    for one, cause in ((job, need), (below, job)):
        found = queue.job(one)
        assert (found["status"], found["failure_kind"]) == ("failed", "dependency")
        assert found["error"] == f"needed job {cause['short_id']} ended as {queue.status(cause)}"
    assert queue.status(far_below) == "failed"


def test_a_cancelled_need_fails_the_waiting_job_at_once(queue):
    need = queue.create()
    job = queue.create(depends_on=[need["id"]])

    queue.act("cancel_job", need)

    assert queue.status(job) == "failed"


def test_a_need_that_is_tried_again_has_not_ended(queue, runner):
    need = queue.create(max_attempts=2)
    job = queue.create(depends_on=[need["id"]])

    finish(queue, runner, need, "failed")
    assert (queue.status(need), queue.status(job)) == ("pending", "blocked")

    queue.make_due(need)
    finish(queue, runner, need)
    assert queue.status(job) == "pending"


def test_needs_that_have_ended_already(queue, runner):
    done, gone = queue.create(), queue.create()
    finish(queue, runner, done)
    queue.act("cancel_job", gone)

    assert queue.create(depends_on=[done["id"]])["status"] == "pending"
    job = queue.create(depends_on=[done["id"], gone["id"]])
    assert (job["status"], job["failure_kind"]) == ("failed", "dependency")


def test_no_needs_at_all(queue):
    assert queue.create(depends_on=[])["status"] == "pending"


def test_a_delayed_job_is_delayed_after_its_needs_too(queue, runner):
    need = queue.create()
    later = queue.value("select now() + interval '1 hour'")
    job = queue.create(depends_on=[need["id"]], run_at=later)

    finish(queue, runner, need)

    assert queue.status(job) == "pending"
    assert queue.claim(runner) == []


def test_unblocking_wakes_an_idle_runner(queue, runner, another):
    need = queue.create()
    queue.create(depends_on=[need["id"]])
    [run] = queue.claim(runner, 5)
    listener = another()
    listener.listen()

    queue.report(runner, run)

    assert "a" in listener.heard()


def test_a_blocked_job_can_be_cancelled_but_not_held(queue, runner):
    need = queue.create()
    job = queue.create(depends_on=[need["id"]])
    with refused("PJ423", "is blocked and cannot be held"):
        queue.act("hold_job", job)

    assert queue.act("cancel_job", job)["status"] == "cancelled"
    finish(queue, runner, need)

    assert queue.status(job) == "cancelled"


def test_any_end_will_do_where_the_policy_says_so(queue, runner):
    need = queue.create(max_attempts=1)
    job = queue.create(depends_on=[need["id"]])
    queue.run("update persona.job_dependencies set policy = 'finished'")

    finish(queue, runner, need, "failed")

    assert queue.status(job) == "pending"


def test_a_repeated_create_adds_no_needs(queue):
    need, job = queue.create(), queue.create(dedupe_key="k")

    assert queue.create(dedupe_key="k", depends_on=[need["id"]])["status"] == "pending"
    assert queue.status(job) == "pending"
    assert queue.value("select count(*) from persona.job_dependencies") == 0


def test_a_failed_job_of_a_failed_need_may_be_retried_by_hand(queue, runner):
    need = queue.create(max_attempts=1)
    job = queue.create(depends_on=[need["id"]])
    finish(queue, runner, need, "failed")

    assert queue.act("retry_job", job)["status"] == "pending"
    finish(queue, runner, job)


def test_a_wide_fan_in_and_a_wide_fan_out(queue, runner):
    needs = [queue.create() for _ in range(30)]
    waiting = [queue.create(depends_on=[n["id"] for n in needs]) for _ in range(10)]

    runs = queue.claim(runner, 30)
    queue.call("complete_jobs", runner_id=runner, items=[
        {"job_id": str(r["id"]), "lease": r["lease"], "outcome": "completed"} for r in runs])  # fmt: skip

    assert {queue.status(job) for job in waiting} == {"pending"}


def test_cleanup_keeps_what_a_blocked_job_needs(queue, runner):
    old = timedelta(days=40)
    done, open_one = queue.create(id=queue.old_id(old)), queue.create()
    queue.create(depends_on=[done["id"], open_one["id"]])
    finish(queue, runner, done)
    queue.age(done, old)

    assert queue.one("cleanup_old_jobs")["cleanup_old_jobs"] == 0
