"""Events: published by callers, read by others, and what they do to jobs driven from outside."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqltest import refused


@pytest.fixture
def external(queue):
    """Create a job that a program outside drives."""

    def make():
        answer = queue.value(
            "select persona.bridge('create_job', array[%s])",
            json.dumps({"type": "agent_action", "payload": {"action": "x"}, "agent": "cro",
                        "tags": [str(queue.value("select random()"))]}),
        )  # fmt: skip
        return queue.row("select * from persona.jobs where id = %s", answer["id"])

    return make


def publish(queue, event_type, job=None, **data):
    return queue.one(
        "publish_event", event_type=event_type, ref=job and str(job["id"]), data=data, source="test"
    )


def test_an_event_is_read_once_comes_back_and_goes_with_its_deletion(queue):
    first = publish(queue, "note.saved", path="a.md")["id"]
    second = publish(queue, "note.saved", path="b.md")["id"]

    [one] = queue.call("read_events", max_events=1, visibility_seconds=60)
    assert (one["id"], one["data"], one["read_count"]) == (first, {"path": "a.md"}, 1)
    assert [e["id"] for e in queue.call("read_events")] == [second]
    assert queue.call("read_events") == []

    queue.run("update persona.events set visible_at = now() - interval '1 s'")
    assert [e["read_count"] for e in queue.call("read_events")] == [2, 2]
    assert queue.value("select persona.delete_event(%s)", first) is True
    assert queue.value("select persona.delete_event(%s)", first) is False
    queue.run("update persona.events set visible_at = now() - interval '1 s'")
    assert [e["id"] for e in queue.call("read_events")] == [second]
    assert [e["id"] for e in queue.call("get_events")] == [second, first]


def test_two_readers_never_get_the_same_event(queue, another):
    for n in range(40):
        publish(queue, "n", n=n)
    readers = [another(f"reader {n}") for n in range(4)]

    def drain(reader):
        found = []
        while some := reader.call("read_events", max_events=3):
            found += [e["id"] for e in some]
        return found

    with ThreadPoolExecutor() as pool:
        read = [one for found in pool.map(drain, readers) for one in found]

    assert len(read) == len(set(read)) == 40


def test_events_start_renew_and_end_a_job_driven_from_outside(queue, external):
    job = external()

    assert publish(queue, "job.started", job, pid=99)["applied"]
    assert queue.status(job) == "running"
    queue.expire(job)
    assert publish(queue, "job.progress", job, progress=30, message="reading")["applied"]
    lease = queue.row("select *, expires_at > now() as is_alive from persona.job_leases")
    assert (lease["pid"], lease["progress"], lease["is_alive"]) == (99, 30, True)
    assert publish(queue, "job.completed", job, exit_code=0, result={"text": "ok"})["applied"]

    done = queue.job(job)
    assert (done["status"], done["exit_code"], done["result"]) == ("completed", 0, {"text": "ok"})
    assert (done["pid"], done["progress"]) == (99, 30)


@pytest.mark.parametrize(
    ("event_type", "data", "kind", "error", "code"),
    [
        ("job.failed", {"error": "broke", "exit_code": 3}, "unknown", "broke", 3),
        ("job.failed", {"exit_code": 3}, "unknown", "exit code 3", 3),
        ("job.failed", {"timeout": True}, "timeout", "timed out", None),
        ("job.timeout", {}, "timeout", "timed out", None),
        ("job.completed", {"exit_code": 1}, "unknown", "exit code 1", 1),
        ("job.completed", {"error": "but"}, "unknown", "but", None),
    ],
)
def test_what_the_data_says_sets_the_outcome(  # noqa: PLR0917 - one row of a table
    queue, external, event_type, data, kind, error, code
):
    job = external()

    assert publish(queue, event_type, job, **data)["applied"]

    ended = queue.job(job)
    assert (ended["status"], ended["failure_kind"], ended["error"]) == ("failed", kind, error)
    assert ended["exit_code"] == code


def test_an_event_that_may_not_move_the_job_is_kept_and_says_why(queue, external, runner):
    run = queue.start(runner)
    told = publish(queue, "job.completed", run)
    assert (told["applied"], "belongs to runner" in told["note"]) == (False, True)
    assert queue.beat(runner, run) == ["keep"]

    job = external()
    publish(queue, "job.cancelled", job)
    assert queue.status(job) == "cancelled"
    assert "cancelled" in publish(queue, "job.completed", job)["note"]
    assert publish(queue, "job.heartbeat", job)["applied"] is False
    assert queue.value("select count(*) from persona.events") == 4


def test_what_is_no_event_is_refused(queue, external):
    job = external()
    with refused("PJ422", "event_type"):
        publish(queue, "two words", job)
    with refused("PJ422", "data"):
        queue.run("select persona.publish_event('a', data => '[1]')")
    with refused("PJ404"):
        queue.run("select persona.publish_event('a', 'ffffffff')")
    with refused("PJ422", "max_events"):
        queue.call("read_events", max_events=0)
    with refused("PJ422", "visibility_seconds"):
        queue.call("read_events", visibility_seconds=-1)
    assert queue.value("select count(*) from persona.events") == 0


def test_the_bridge_speaks_of_events_in_the_first_systems_form(queue, external):
    job = external()

    def bridge(command, *args):
        return queue.value("select persona.bridge(%s, %s::text[])", command, list(args))

    told = bridge("publish_event", "job.started", job["short_id"], '{"pid": 1}', "bash", "run-7")
    assert told | {"msg_id": 0} == {
        "success": True, "event_type": "job.started", "job_id": job["short_id"],
        "source": "bash", "trace_id": "run-7", "msg_id": 0,
    }  # fmt: skip
    read = bridge("read_events", "5", "60")
    [event] = read["events"]
    assert (read["success"], read["count"], event["read_ct"]) == (True, 1, 1)
    assert event.keys() == {"msg_id", "read_ct", "enqueued_at", "vt", "message"}
    assert event["message"] | {"timestamp": 0} == {
        "type": "job.started", "job_id": str(job["id"]), "timestamp": 0, "source": "bash",
        "trace_id": "run-7", "data": {"pid": 1},
    }  # fmt: skip
    assert bridge("delete_event", str(event["msg_id"])) == {"success": True, "deleted": True}
    kept = bridge("get_events", "-", "job.started", "10")
    assert (kept["count"], kept["events"][0]["id"]) == (1, event["msg_id"])
    assert bridge("get_events", job["short_id"], "other")["events"] == []


def test_the_story_of_a_job_is_one_view(queue, external, runner):
    run = queue.start(runner, max_attempts=2)
    queue.report(runner, run, "failed", exit_code=1)
    publish(queue, "note.linked", run)
    queue.act("cancel_job", run)

    story = queue.rows(
        "select event_type, source from persona.job_events where job_id = %s order by at, event_id",
        run["id"],
    )

    assert [(e["event_type"], e["source"]) for e in story] == [
        ("job.created", "persona"),
        ("job.started", "persona"),
        ("job.failed", "persona"),
        ("note.linked", "test"),
        ("job.cancelled", "persona"),
    ]


def test_old_events_go(queue):
    publish(queue, "a")
    publish(queue, "b")
    queue.run(
        "update persona.events set created_at = now() - interval '31 days' where event_type = 'a'"
    )

    queue.call("tick")

    assert [e["event_type"] for e in queue.call("get_events")] == ["b"]
