"""heartbeats: leases are renewed, and the answer says what to do with each job."""

from __future__ import annotations

import uuid
from datetime import timedelta

from sqltest import refused


def lease(queue, run):
    return queue.row("select * from persona.job_leases where job_id = %s", run["id"])


def test_keep_renews_the_lease_and_stores_what_it_carries(queue, runner):
    run = queue.start(runner)
    queue.run("update persona.job_leases set expires_at = now() + interval '1 s'")

    assert queue.beat(
        runner, run, pid=77, pid_started="s", token=5, cpu_percent=12.5, memory_mb=3.5,
        progress=40, progress_text="reading",
    ) == ["keep"]  # fmt: skip

    found = lease(queue, run)
    assert (found["pid"], found["pid_started"], found["token"]) == (77, "s", 5)
    assert (found["cpu_percent"], found["memory_mb"], found["progress"]) == (12.5, 3.5, 40)
    assert found["expires_at"] - found["heartbeat_at"] == timedelta(seconds=300)
    [shown] = queue.call("list_jobs", status="running")
    assert (shown["pid"], shown["progress"], shown["progress_text"]) == (77, 40, "reading")


def test_a_heartbeat_that_says_less_keeps_what_is_known(queue, runner):
    run = queue.start(runner)
    queue.beat(runner, run, pid=77, progress=40)
    queue.beat(runner, run)

    assert (lease(queue, run)["pid"], lease(queue, run)["progress"]) == (77, 40)


def test_cancel_is_told_with_its_reason_until_it_is_done(queue, runner):
    run, other = queue.start(runner), queue.start(runner)
    queue.act("cancel_job", run, reason="enough")
    beats = [{"job_id": str(r["id"]), "lease": r["lease"]} for r in (run, other)]

    told = {b["job_id"]: b for b in queue.call("heartbeats", runner_id=runner, beats=beats)}

    assert (told[run["id"]]["directive"], told[run["id"]]["reason"]) == ("cancel", "enough")
    assert told[run["id"]]["force"] is False
    assert told[other["id"]]["directive"] == "keep"
    queue.act("cancel_job", run, force=True)
    assert queue.call("heartbeats", runner_id=runner, beats=beats[:1])[0]["force"] is True


def test_a_cancelled_job_keeps_its_lease_while_it_is_being_killed(queue, runner):
    run = queue.start(runner)
    queue.act("cancel_job", run)
    queue.run("update persona.job_leases set expires_at = now() + interval '1 s'")

    assert queue.beat(runner, run) == ["cancel"]
    assert lease(queue, run)["expires_at"] > queue.value("select now() + interval '200 s'")


def test_lost_is_told_for_each_that_is_not_held(queue, runner):
    run, gone = queue.start(runner), queue.start(runner)
    queue.report(runner, gone)
    stranger = {"id": uuid.uuid4(), "lease": 1}
    earlier = run | {"lease": run["lease"] - 1}

    assert queue.beat(runner, run, gone, stranger, earlier) == ["keep", "lost", "lost", "lost"]
    assert queue.beat(queue.runner("second"), run) == ["lost"]


def test_a_lease_that_ran_out_but_was_not_taken_is_renewed(queue, runner):
    run = queue.start(runner)
    queue.expire(run, by=timedelta(hours=9))
    assert [job["id"] for job in queue.call("detect_hung_jobs")] == [run["id"]]

    assert queue.beat(runner, run) == ["keep"]
    assert queue.call("recover_hung_jobs") == []
    assert queue.call("detect_hung_jobs") == []
    assert queue.report(runner, run)["status"] == "ok"


def test_a_lease_that_was_taken_is_lost(queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    queue.call("recover_hung_jobs")

    assert queue.beat(runner, run) == ["lost"]
    [again] = queue.claim(queue.runner("second"))
    assert queue.beat(runner, run) == ["lost"]
    assert again["lease"] > run["lease"]


def test_one_runners_expired_lease_taken_again_by_itself(queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    queue.call("recover_hung_jobs")
    [again] = queue.claim(runner)

    assert queue.beat(runner, run, again) == ["lost", "keep"]


def test_the_same_beat_twice_in_one_call(queue, runner):
    run = queue.start(runner)

    assert queue.beat(runner, run, run) == ["keep", "keep"]


def test_no_beats_are_a_sign_of_life(queue, runner):
    queue.run("update persona.runners set last_seen_at = now() - interval '1 hour'")

    assert queue.rows("select * from persona.heartbeats(%s, '[]')", runner) == []
    assert queue.rows("select * from persona.heartbeats(%s, null)", runner) == []
    assert queue.value("select last_seen_at > now() - interval '1 s' from persona.runners")


def test_the_single_form_raises(queue, runner):
    run = queue.start(runner)
    single = {"runner_id": runner, "job_id": run["id"], "lease": run["lease"]}

    assert queue.one("heartbeat", **single, pid=7, progress=5)["heartbeat"] == "keep"
    queue.act("cancel_job", run)
    assert queue.one("heartbeat", **single)["heartbeat"] == "cancel"
    with refused("PJ410", "does not hold lease"):
        queue.one("heartbeat", **single | {"lease": run["lease"] + 1})
