"""What went wrong with the first system's jobs, once each; the numbers are the design's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from psycopg.types.json import Jsonb
from sqltest import Queue, refused


def bridge(sql, command, *arguments):
    return sql.value("select persona.bridge(%s, %s::text[])", command, list(arguments))


def test_07_a_finished_job_stays_finished_for_every_writer(sql):
    """There the guard compared different types, and was never true."""
    runner = sql.runner()
    run = sql.start(runner)
    sql.report(runner, run)

    for status in ("pending", "running", "failed", "cancelled"):
        with refused("PJ423"):
            sql.run("update persona.jobs set status = %s where id = %s", status, run["id"])
    answer = bridge(sql, "update_job_status", str(run["id"]), '{"status": "running"}')

    assert (answer["success"], answer["idempotent"]) == (False, True)
    assert sql.status(run) == "completed"


def test_08_the_column_of_the_optimistic_lock_is_there_and_grows_with_every_change(sql):
    """There one of two schemas lacked it."""
    job = sql.create()
    read = job["updated_at"]
    changed = sql.one("update_job", ref=str(job["id"]), expected_updated_at=read,
                      changes={"priority": 1})  # fmt: skip

    with refused("PJ409"):
        sql.one("update_job", ref=str(job["id"]), expected_updated_at=read, changes={"priority": 2})
    sql.run("update persona.jobs set updated_at = %s where id = %s", read, job["id"])

    assert changed["updated_at"] > read
    assert sql.job(job)["updated_at"] > changed["updated_at"]
    assert sql.job(job)["priority"] == 1


def test_09_two_runners_never_get_one_job(sql, connect):
    """There two workers could start it."""
    first = sql.create()
    second = sql.create()
    one, other = sql.runner("one"), sql.runner("other")
    another = Queue(connect("other"))

    # The first claim is not committed yet: the other one neither waits for it nor takes the same.
    with sql.conn.transaction():
        [mine] = sql.claim(one)
        [theirs] = another.claim(other)
        assert another.claim(other) == []

    assert [mine["id"], theirs["id"]] == [first["id"], second["id"]]
    assert sql.beat(other, mine) == ["lost"]


def test_10_hung_is_judged_by_the_heartbeat_and_never_by_the_start(sql):
    """There every long job was failed while it was alive."""
    runner = sql.runner(capacity=9)
    long, silent = sql.start(runner), sql.start(runner)
    sql.run("update persona.jobs set started_at = now() - interval '9 h' where id = %s", long["id"])
    sql.run(
        "update persona.job_leases set claimed_at = now() - interval '9 h' where job_id = %s",
        long["id"],
    )
    assert sql.beat(runner, long) == ["keep"]
    sql.expire(silent)

    hung = sql.call("detect_hung_jobs", timeout=timedelta(minutes=5))
    sql.call("recover_hung_jobs")

    assert [job["id"] for job in hung] == [silent["id"]]
    assert (sql.status(long), sql.status(silent)) == ("running", "pending")


def test_11_a_message_is_stored_as_it_was_meant_or_refused_aloud(sql):
    """There a call had its arguments in the wrong order, and failed silently."""
    job = str(sql.create()["id"])

    assert bridge(sql, "log_job_event", job, "warning", "disk is full") == {"success": True}
    swapped = bridge(sql, "log_job_event", job, "disk is full", "warning")

    assert "level" in swapped["error"]
    assert sql.rows("select level, message from persona.job_logs") == [
        {"level": "warn", "message": "disk is full"}
    ]
    with pytest.raises(Exception, match="does not exist"):
        sql.conn.execute("select persona.append_logs(%s, %s)", (Jsonb([]), sql.runner()))


def test_15_a_summary_and_a_heartbeat_of_many_jobs_are_one_statement_each(sql):
    """There a summary took six queries, and a heartbeat a process start."""
    runner = sql.runner(capacity=50)
    runs = []
    for _ in range(50):
        sql.create()
    runs = sql.claim(runner, 50)
    sql.expire(*runs[:1])

    summary = bridge(sql, "get_job_summary")
    directives = sql.beat(runner, *runs[1:])

    assert summary == {
        "pending": 0, "running": 49, "completed": 0, "failed": 0, "cancelled": 0, "hung": 1,
    }  # fmt: skip
    assert directives == ["keep"] * 49
