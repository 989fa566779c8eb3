"""The typed client over the functions."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from persona_pg.database import Database
from persona_pg.errors import (
    AmbiguousId,
    IllegalTransition,
    InvalidInput,
    JobNotFound,
    UpdateConflictError,
)
from persona_pg.queue import Queue


@pytest.fixture
def queue(dsn):
    with Queue(Database(dsn)) as found:
        yield found


def make(queue, text="?", **options):
    return queue.create_job("research", {"question": text}, **options)


def test_everything_given_comes_back(queue):
    parent, needed = make(queue), make(queue)
    job = make(
        queue, 'quotes " \\ and \U0001f389', agent="assistant", priority=3,
        delay=timedelta(hours=1), timeout=timedelta(seconds=1.5), idle_timeout=timedelta(days=2),
        max_attempts=5, dedupe_key="k", lock_key="l", parent_job_id=parent.id,
        depends_on=[needed.id], tags=["a", "b c"], source_file="f", source_line=3,
        delegated_by="me", business="acme",
    )  # fmt: skip

    assert queue.get_job(job.id) == job
    assert (job.timeout, job.idle_timeout) == (timedelta(seconds=1.5), timedelta(days=2))
    assert (job.tags, job.source_line, job.delegated_by) == (["a", "b c"], 3, "me")
    assert (job.status, job.priority, job.business) == ("blocked", 3, "acme")


def test_the_database_may_have_its_own_styles(queue, conn, database):
    conn.execute(f"alter database \"{database}\" set datestyle = 'German'")
    conn.execute(f"alter database \"{database}\" set intervalstyle = 'iso_8601'")
    conn.execute(f"alter database \"{database}\" set timezone = 'Asia/Kathmandu'")
    job = make(queue, timeout=timedelta(minutes=5))

    assert queue.get_job(job.id).timeout == timedelta(minutes=5)
    assert queue.get_job(job.id).created_at.utcoffset() == timedelta(hours=5, minutes=45)


def test_many_jobs_come_back_in_order(queue):
    given = uuid.uuid4()
    ids = queue.create_jobs(
        [{"job_type": "research", "payload": {"question": str(n)}} for n in range(50)]
        + [{"id": given, "job_type": "research", "payload": {"question": "last"}}]
    )
    assert ids[-1] == given
    assert [queue.get_job(i).payload["question"] for i in ids[:50:10]] == [
        "0",
        "10",
        "20",
        "30",
        "40",
    ]


def test_an_update_rests_on_the_version_that_was_read(queue):
    job = make(queue)
    newer = queue.update_job(job.id, {"priority": 5}, expected_updated_at=job.updated_at)

    assert newer.priority == 5
    with pytest.raises(UpdateConflictError):
        queue.update_job(job.id, {"priority": 6}, expected_updated_at=job.updated_at)
    assert queue.get_job(job.id).priority == 5


def test_a_change_given_as_a_function_is_worked_out_again(queue):
    job = make(queue, priority=1)
    seen = []

    def change(fresh):
        seen.append(fresh.priority)
        if len(seen) < 3:  # somebody else is faster, twice
            queue.update_job(
                job.id, {"priority": fresh.priority * 10}, expected_updated_at=fresh.updated_at
            )
        return {"priority": fresh.priority + 1}

    assert queue.update_job(job.id, change).priority == 101
    assert seen == [1, 10, 100]


def test_after_three_conflicts_it_is_given_up(queue):
    job = make(queue)
    seen = []

    def change(fresh):
        seen.append(1)
        queue.update_job(job.id, {"priority": len(seen)}, expected_updated_at=fresh.updated_at)
        return {"priority": 99}

    with pytest.raises(UpdateConflictError):
        queue.update_job(job.id, change)
    assert (len(seen), queue.get_job(job.id).priority) == (3, 3)


def test_an_update_needs_to_know_its_version(queue):
    job = make(queue)
    with pytest.raises(InvalidInput):
        queue.update_job(job.id, {"priority": 5})
    with pytest.raises(InvalidInput):
        queue.update_job(job.id, lambda _: {}, expected_updated_at=job.updated_at)


def test_errors_have_their_classes(queue):
    job = make(queue)
    with pytest.raises(JobNotFound):
        queue.get_job(uuid.uuid4())
    with pytest.raises(IllegalTransition) as caught:
        queue.release_job(job.id)
    assert caught.value.detail["from"] == "pending"
    for last in "12":
        make(queue, id=uuid.UUID(f"01a20000-0000-7000-8000-0000abcd000{last}"))
    with pytest.raises(AmbiguousId) as ambiguous:
        queue.get_job("abcd000")
    assert len(ambiguous.value.detail["candidates"]) == 2


@pytest.mark.parametrize(
    "payload, said",
    [
        ({"a": ["\0"]}, "NUL"),
        ({"\0": 1}, "NUL"),
        ({"a": "\ud800"}, "Unicode"),
        ({"a": object()}, "JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused_here(queue, payload, said):
    with pytest.raises((InvalidInput, TypeError), match=said):
        queue.create_job("x", payload, agent="assistant")
    assert queue.list_jobs() == []


def test_a_text_that_only_looks_like_a_nul_is_stored(queue):
    payload = {"a": "\\u0000"}
    assert queue.create_job("x", payload, agent="assistant").payload == payload


def test_the_rest_of_the_functions_answer(queue):
    job = make(queue)
    assert queue.resolve_job(job.short_id) == job.id
    assert [found.id for found in queue.get_jobs([job.id, job.short_id])] == [job.id, job.id]
    assert queue.get_full_job(job.id).hung is False
    assert queue.get_dashboard(job.id).task_preview == "?"
    assert [found.id for found in queue.list_jobs(status="pending", agent="researcher")] == [job.id]
    assert queue.get_job_tree(job.id)[0].job_id == job.id
    assert "no live runner" in queue.explain_job(job.id)
    assert queue.get_logs(job.id) == queue.tail_logs(job.id) == list(queue.iter_logs(job.id)) == []
    assert queue.get_attempts(job.id) == []
    assert queue.job_summary().pending == 1
    assert queue.statistics()[0].total == 1
    assert queue.detect_hung_jobs() == []
    assert queue.recover_hung_jobs() == []
    assert isinstance(queue.tick(), dict)
    assert queue.hold_job(job.id, "wait").status == "held"
    assert queue.release_job(job.id).status == "pending"
    assert queue.cancel_pending_jobs("all of them") == 1
    assert queue.retry_job(job.id).status == "pending"
    assert queue.cancel_job(job.id).status == "cancelled"
    assert queue.cleanup_old_jobs(0, dry_run=True) == 1
    assert queue.cleanup_old_jobs(0, max_jobs=10) == 1
    assert queue.runners() == []
    assert queue.schema_version() >= 1
    assert queue.view("queue_health")
