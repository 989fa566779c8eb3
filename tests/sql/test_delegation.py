"""What a running job may ask of the queue: delegating, waiting without a slot, and its limits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from uuid import UUID

    from sqltest import Queue


class Job:
    """A running job that speaks through its runner."""

    def __init__(self, queue: Queue, runner: UUID, run: dict[str, Any]) -> None:
        self.queue, self.runner, self.run = queue, runner, run

    def call(self, command: str, **body: Any) -> dict[str, Any]:
        sql = "select persona.job_call(%s, %s, %s, %s, %s)"
        where = (self.runner, self.run["id"], self.run["lease"])
        found: dict[str, Any] = self.queue.value(sql, *where, command, body or None)
        return found

    def do(self, command: str, **body: Any) -> Any:
        answer = self.call(command, **body)
        assert answer["ok"], answer
        return answer["data"]

    def refused(self, command: str, **body: Any) -> tuple[str, str]:
        error = self.call(command, **body)["error"]
        return error["code"], error["message"]

    def delegate(self, **body: Any) -> dict[str, Any]:
        made = self.do("delegate", **{"agent": "a", "type": "t", "text": "do it"} | body)
        return self.queue.row("select * from persona.jobs where id = %s", made["id"])


@pytest.fixture
def start(queue, runner):
    """Start a job of agent a, which may delegate to a and b."""
    queue.agent(may_delegate_to=["a", "b"])
    queue.agent("b")

    def make(**options):
        return Job(queue, runner, queue.start(runner, **options))

    return make


def test_text_goes_where_the_type_looks_for_its_prompt(start, queue):
    job = start()

    assert job.delegate(type="research")["payload"] == {"prompt": "do it"}
    assert job.delegate(type="")["job_type"] == "delegate"
    assert job.delegate(type="shell")["payload"] == {"script": "do it"}
    assert job.delegate(type="none such", payload={"x": 1})["payload"] == {
        "prompt": "do it",
        "x": 1,
    }


def test_a_key_is_one_job_over_all_attempts_of_its_parent(start, queue, runner):
    job = start()
    first = job.delegate(key="part 1")
    assert job.delegate(key="part 1")["id"] == first["id"]
    assert job.delegate(key="part 2")["id"] != first["id"]
    [run] = [r for r in queue.claim(runner, 5) if r["id"] == first["id"]]
    queue.report(runner, run)
    queue.report(runner, job.run, "given_back")

    [again] = queue.claim(runner)

    assert Job(queue, runner, again).delegate(key="part 1")["status"] == "completed"


def test_a_delegated_job_goes_before_what_came_after_its_parent(start, queue, runner):
    job = start()
    queue.create()
    child = job.delegate()

    assert queue.claim(runner)[0]["id"] == child["id"]


def test_fan_out_is_bounded(start, queue):
    queue.call("set_setting", name="max_children", value="2")
    job = start()
    job.delegate(key="1")
    job.delegate(key="2")

    assert job.refused("delegate", agent="a", type="t")[0] == "denied"
    assert job.delegate(key="2")


def test_a_lock_key_of_a_job_above_is_refused_and_another_one_is_not(start, queue, runner):
    job = start(lock_key="note")
    child = job.delegate(lockKey="other")
    [run] = queue.claim(runner)
    assert run["id"] == child["id"]

    code, message = Job(queue, runner, run).refused("delegate", agent="a", lockKey="note", type="t")

    assert code == "invalid"
    assert "could never start" in message


def test_a_dedupe_key_of_a_job_elsewhere_makes_no_cycle(start, queue, runner):
    job = start(dedupe_key="mine")
    arguments = {"runner_id": runner, "job_id": job.run["id"], "lease": job.run["lease"]}

    with pytest.raises(Exception, match="not delegated by"):
        queue.one("create_child_job", **arguments, job_type="t", agent="a", dedupe_key="mine")


def test_a_job_sees_only_itself_and_what_is_below(start, queue):
    stranger = queue.create()
    queue.act("cancel_job", stranger)
    job = start()
    child = job.delegate()

    assert job.do("get")["id"] == str(job.run["id"])
    assert job.do("get", id=child["short_id"])["payload"] == {"prompt": "do it"}
    assert [one["id"] for one in job.do("children")["jobs"]] == [str(child["id"])]
    assert job.refused("get", id=str(stranger["id"]))[0] == "denied"
    assert job.refused("wait", ids=[str(stranger["id"])])[0] == "denied"
    assert job.refused("release", id=str(child["id"]))[0] == "invalid"
    job.run["lease"] -= 1
    assert job.refused("get")[0] == "conflict"


def test_a_waiting_job_lends_its_slot_and_takes_it_back(start, queue, runner):
    queue.agent(max_concurrent=1)
    job = start()
    child = job.delegate()
    assert queue.claim(runner) == []

    assert job.do("wait") == {"done": False, "ids": [str(child["id"])]}
    assert "waits for 1 job(s)" in queue.explain(job.run)
    [run] = queue.claim(runner)
    assert job.do("regain") is False
    later = queue.create()
    queue.report(runner, run, result={"text": "4"})

    # The free slot is left to the job that waits for it.
    assert queue.claim(runner) == []
    [done] = job.do("wait")["jobs"]
    assert (done["status"], done["result"]) == ("completed", {"text": "4"})
    assert job.do("regain") is True
    assert job.do("regain") is True
    queue.report(runner, job.run)
    assert queue.claim(runner)[0]["id"] == later["id"]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "need failed"])
def test_the_runner_of_a_job_that_waits_hears_of_each_end_and_no_other(start, queue, runner, end):
    def finish(child):
        if end == "cancelled":
            queue.act("cancel_job", child)
        elif end == "need failed":
            needed = queue.create()
            below = queue.create(parent_job_id=job.run["id"], depends_on=[needed["id"]])
            queue.act("cancel_job", needed)
            assert queue.status(below) == "failed"
        else:
            [run] = queue.claim(runner)
            assert run["id"] == child["id"]
            queue.report(runner, run, end, failure_kind="auth")

    queue.listen("persona_control")
    job = start()
    finish(job.delegate())
    assert queue.heard() == []

    child = job.delegate()
    job.do("wait", ids=[str(child["id"])])
    finish(child)

    assert queue.heard() == [f"children {runner}"]


def test_an_end_at_the_moment_of_waiting_is_seen_by_one_of_both(
    start, queue, runner, another, wait_until_blocked
):
    """The look of the one that waits comes after the commit of the one that ends."""
    from concurrent.futures import ThreadPoolExecutor

    job = start()
    job.delegate()
    [run] = queue.claim(runner)
    waiter = Job(another("waiter"), runner, job.run)

    with ThreadPoolExecutor(1) as pool:
        with queue.conn.transaction():
            queue.report(runner, run)
            waiting = pool.submit(waiter.do, "wait")
            wait_until_blocked("waiter")
        assert waiting.result(5)["done"] is True


def test_a_waiting_job_keeps_its_lock_key(start, queue, runner):
    job = start(lock_key="note")
    job.delegate()
    queue.create(lock_key="note", priority=9)

    job.do("wait")

    assert [queue.job(run)["lock_key"] for run in queue.claim(runner, 5)] == [None]


def test_the_failure_of_a_child_does_what_was_said(start, queue, runner):
    job = start()
    bad = job.delegate(onFailure="cancel-siblings", maxAttempts=1)
    beside = job.delegate()
    [run] = queue.claim(runner)
    queue.report(runner, run, "failed")

    assert (queue.status(bad), queue.status(beside)) == ("failed", "cancelled")
    assert queue.status(job.run) == "running"

    worse = job.delegate(onFailure="fail", maxAttempts=1)
    last = job.delegate()
    [run] = queue.claim(runner)
    assert run["id"] == worse["id"]
    queue.report(runner, run, "failed", error="no")

    assert queue.status(last) == "cancelled"
    assert queue.beat(runner, job.run) == ["cancel"]
    queue.report(runner, job.run, "cancelled", error="delegated job failed")
    row = queue.job(job.run)
    assert (row["status"], row["failure_kind"]) == ("failed", "child_failed")
    assert row["error"] == f"delegated job {worse['short_id']} failed"


def test_an_unknown_policy_is_refused(start):
    assert start().refused("delegate", agent="a", type="t", onFailure="panic")[0] == "invalid"


def test_a_parent_is_cancelled_with_or_without_what_is_below(start, queue):
    job, kept = start(), start()
    child, left = job.delegate(timeout="5 s"), kept.delegate()
    assert child["timeout"] == timedelta(seconds=5)

    queue.act("cancel_job", job.run)
    queue.act("cancel_job", kept.run, tree=False)

    assert (queue.status(child), queue.status(left)) == ("cancelled", "pending")
