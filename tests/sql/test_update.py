"""update_job: optimistic, strict, and only before the start (P12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqltest import refused

FAR = datetime(2100, 1, 1, tzinfo=UTC)


def update(queue, job, changes, expected=None):
    return queue.one(
        "update_job", ref=str(job["id"]), changes=changes,
        expected_updated_at=expected or job["updated_at"],
    )  # fmt: skip


def test_all_that_may_change(queue):
    queue.agent("b")
    job = queue.create(dedupe_key="old", lock_key="old")
    changes = {
        "priority": 5, "payload": {"x": 1}, "agent": "b", "max_attempts": 9, "tags": ["t"],
        "lock_key": "l", "dedupe_key": "d", "source_file": "f", "source_line": 3,
        "business": "acme",
    }  # fmt: skip

    new = update(queue, job, changes | {
        "run_at": FAR.isoformat(), "timeout": "5 s", "idle_timeout": "PT2S"})  # fmt: skip

    assert {name: new[name] for name in changes} == changes
    assert (new["run_at"], new["timeout"]) == (FAR, timedelta(seconds=5))
    assert new["idle_timeout"] == timedelta(seconds=2)
    assert queue.job(job) == new
    assert queue.create(dedupe_key="old")["id"] != job["id"]
    entry = queue.row("select * from persona.job_queue where job_id = %s", job["id"])
    assert (entry["agent"], entry["priority"], entry["lock_key"]) == ("b", 5, "l")
    assert (entry["run_at"], entry["waits_on"]) == (FAR, "time")


def test_null_clears(queue):
    job = queue.create(
        timeout=timedelta(1), idle_timeout=timedelta(1), dedupe_key="d", lock_key="l",
        source_file="f", source_line=1, business="acme", tags=["x"], priority=3, run_at=FAR,
        max_attempts=7,
    )  # fmt: skip
    names = ["timeout", "idle_timeout", "dedupe_key", "lock_key", "source_file", "source_line",
             "business"]  # fmt: skip

    new = update(queue, job, dict.fromkeys([*names, "tags", "priority", "run_at", "max_attempts"]))

    assert all(new[name] is None for name in names)
    assert (new["tags"], new["priority"], new["max_attempts"]) == ([], 0, 7)
    assert new["run_at"] < FAR


def test_p12_the_second_of_two_edits_is_refused(queue):
    job = queue.create()
    new = update(queue, job, {"priority": 1})

    with refused("PJ409", "has changed since you read it") as told:
        update(queue, job, {"priority": 2})

    assert told.detail["id"] == str(job["id"])
    assert queue.job(job) == new
    assert update(queue, new, {"priority": 3})["priority"] == 3


def test_p12_updated_at_grows_even_within_one_transaction(queue):
    job = queue.create()
    with queue.conn.transaction():
        seen = [job["updated_at"]]
        for n in range(5):
            job = update(queue, job, {"priority": n})
            seen.append(job["updated_at"])

    assert seen == sorted(set(seen))


def test_p12_an_edit_by_hand_counts_as_one(queue):
    job = queue.create()
    queue.run("update persona.jobs set tags = '{x}', updated_at = '-infinity'")

    with refused("PJ409"):
        update(queue, job, {"priority": 2})
    assert queue.job(job)["updated_at"] > job["updated_at"]


@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled"])
def test_only_before_the_start(queue, runner, status):
    run = queue.start(runner, max_attempts=1)
    if status != "running":
        queue.report(runner, run, status)

    with refused("PJ423", f"is {status}: only a job that has not started"):
        update(queue, queue.job(run), {"priority": 2})


@pytest.mark.parametrize("status", ["blocked", "held"])
def test_what_waits_can_be_changed(queue, status):
    need = queue.create()
    job = queue.create(depends_on=[need["id"]] if status == "blocked" else None)
    if status == "held":
        job = queue.act("hold_job", job)

    new = update(queue, job, {"payload": {"x": 2}})

    assert (new["status"], new["payload"]) == (status, {"x": 2})


BAD = {
    "no object": ([{}], "changes"),
    "unknown": ({"colour": 1}, "changes"),
    "forbidden": ({"status": "completed"}, "changes"),
    "lease": ({"lease": 0}, "changes"),
    "wrong type": ({"priority": "high"}, "changes"),
    "too large": ({"priority": 2**40}, "changes"),
    "wrong time": ({"run_at": "soon"}, "changes"),
    "tags": ({"tags": "x"}, "changes"),
    "payload": ({"payload": [1]}, "payload"),
    "no payload": ({"payload": None}, "payload"),
    "agent": ({"agent": "nobody"}, "agent"),
    "timeout": ({"timeout": "0 s"}, "timeout"),
    "attempts": ({"max_attempts": 0}, "max_attempts"),
    "dedupe key": ({"dedupe_key": ""}, "dedupe_key"),
    "lock key": ({"lock_key": "x" * 501}, "lock_key"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_change_changes_nothing(queue, case):
    changes, argument = BAD[case]
    job = queue.create()

    with refused("PJ422") as told:
        update(queue, job, changes)

    assert told.detail["argument"] == argument
    assert queue.job(job) == job


def test_a_bad_change_of_no_use_is_named(queue):
    job = queue.create()
    with refused("PJ422", "expected_updated_at"):
        queue.one(
            "update_job", ref=str(job["id"]), expected_updated_at=None, changes={"priority": 1}
        )
    with refused("PJ404"):
        queue.one("update_job", ref="ffff", expected_updated_at=FAR, changes={"priority": 1})


def test_a_dedupe_key_that_another_live_job_has_is_a_conflict(queue):
    queue.create(dedupe_key="k")
    job = queue.create()

    with refused("PJ409", 'another unfinished job has the dedupe key "k"'):
        update(queue, job, {"dedupe_key": "k"})

    assert queue.job(job) == job


def test_a_change_makes_a_job_claimable_and_wakes_a_runner(queue, runner, another):
    job = queue.create(run_at=FAR)
    assert queue.claim(runner) == []
    listener = another()
    listener.listen()

    update(queue, job, {"run_at": "2020-01-01T00:00:00Z"})

    assert listener.heard() == ["a"]
    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


def test_an_empty_change_is_a_change_of_updated_at_only(queue):
    job = queue.create()
    queue.rows("select 1")

    new = update(queue, job, {"priority": 0})

    assert new | {"updated_at": 0} == job | {"updated_at": 0}
