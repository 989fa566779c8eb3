"""persona.bridge: the first system's door, as its client uses it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

# Any of these in an error makes the client repeat the call.
AGAIN = ("network", "connection", "timeout", "429", "502", "503", "rate limit", "econnrefused")


@pytest.fixture
def bridge(queue):
    """Call a command with arguments, objects as JSON; an error is that one key, and only then."""

    def call(command, *args, error=None, queue=queue):
        words = [a if isinstance(a, str) else json.dumps(a) for a in args]
        answer = queue.value("select persona.bridge(%s, %s::text[])", command, words)
        if error is None:
            assert answer.keys() != {"error"}, answer
        else:
            assert answer.keys() == {"error"}, answer
            assert error in answer["error"]
            assert not [word for word in AGAIN if word in answer["error"].lower()]
        return answer

    return call


@pytest.fixture
def action(bridge):
    """Create an agent_action job as the plugin does before it starts the program itself."""

    def make(agent="cro", action="briefing", **more):
        payload = {"agent": agent, "action": action, "timeout": 300} | more
        return bridge("create_job", {"type": "agent_action", "payload": payload, "agent": agent})

    return make


@pytest.fixture
def drive(bridge):
    """Tell how a job goes."""

    def tell(job, status, **more):
        return bridge("update_job_status", job["shortId"], {"status": status, **more})

    return tell


def status(bridge, job):
    return bridge("get_job_status", job["id"])["status"]


def pending(bridge, *args):
    return bridge("get_pending_jobs", *args)["jobs"]


# -- create and look ---------------------------------------------------------------------------


def test_fault_6_the_question_reaches_the_one_job_it_asks_for(bridge, queue, runner):
    """Dispatch made a second job, and never passed the question on."""
    asked = {"type": "research", "payload": {"question": "why?"}, "agent": "researcher",
             "sourceFile": "2026-02-01.md", "tags": ["research", "daily-note"]}  # fmt: skip

    made = bridge("create_job", asked)
    again = bridge("create_job", asked)

    assert made.keys() == {"id", "shortId", "type", "status", "assignedTo"}
    assert (made["type"], made["status"], made["assignedTo"]) == (
        "research",
        "pending",
        "researcher",
    )
    assert again == made
    [claimed] = queue.claim(runner, 5)
    assert (str(claimed["id"]), claimed["payload"]) == (made["id"], {"question": "why?"})
    assert bridge("create_job", asked)["id"] == made["id"]  # running is alive too
    queue.report(runner, claimed)
    assert bridge("create_job", asked)["id"] != made["id"]


def test_a_job_differs_by_anything_that_was_said_and_after_15_seconds(bridge, queue):
    asked = {"type": "agent_action", "payload": {"action": "x"}, "agent": "cro"}
    first = bridge("create_job", asked)["id"]
    others = [
        bridge("create_job", asked | change)["id"]
        for change in (
            {"payload": {"action": "y"}}, {"agent": "cto"}, {"tags": ["t"]}, {"sourceLine": 4},
            {"sourceFile": "n.md"}, {"type": "calendar_fetch"},
        )
    ]  # fmt: skip
    assert len({first, *others}) == 7
    queue.run("update persona.jobs set created_at = created_at - interval '16 s'")

    assert bridge("create_job", asked)["id"] != first


def test_two_clients_that_repeat_at_once_make_one_job(bridge, queue, another, wait_until_blocked):
    from concurrent.futures import ThreadPoolExecutor

    asked = {"type": "agent_action", "payload": {"action": "x"}, "agent": "cro"}
    other = another("second")
    with ThreadPoolExecutor() as pool:
        queue.run("begin")
        first = bridge("create_job", asked)
        waiting = pool.submit(bridge, "create_job", asked, queue=other)
        wait_until_blocked("second")
        queue.run("commit")
        assert waiting.result(timeout=5) == first


def test_status_of_a_job_and_of_none(bridge, action):
    made = action()

    found = bridge("get_job_status", made["shortId"])

    assert found.keys() == {
        "id", "shortId", "type", "status", "assignedTo", "createdAt", "startedAt", "completedAt",
        "error", "result", "pid",
    }  # fmt: skip
    assert found["createdAt"][10] == "T"
    assert found["error"] is None
    assert bridge("get_job_status", "4295020", error="Job not found")
    assert bridge("get_job_status", "no id", error="Job not found")


def test_pending_jobs_name_an_agent_only_where_a_program_outside_may_start_them(
    bridge, action, queue
):
    for _ in range(60):
        queue.create()
    mine = action("cro")
    bridge("create_job", {"type": "calendar_fetch", "payload": {"date": "2026-02-01"},
                          "agent": "calendar", "tags": ["calendar", "sync"]})  # fmt: skip
    held = action("cto")
    queue.act("hold_job", {"id": held["id"]})

    jobs = pending(bridge)

    assert len(jobs) == 50
    assert [j["assignedTo"] for j in jobs[:3]] == ["cro", "calendar", None]
    assert {j["assignedTo"] for j in jobs[2:]} == {None}
    assert jobs[0]["payload"]["action"] == "briefing"
    assert [j["id"] for j in pending(bridge, "cro")] == [mine["id"]]
    [only] = pending(bridge, "cto")
    assert (only["status"], only["assignedTo"]) == ("pending", None)
    assert len(pending(bridge, "")) == len(pending(bridge, "-")) == 50


def test_blocked_and_held_are_pending_to_this_client(bridge, queue):
    first = queue.create()
    blocked = queue.create(depends_on=[first["id"]])
    held = queue.create()
    queue.act("hold_job", held)

    assert status(bridge, {"id": str(blocked["id"])}) == "pending"
    assert status(bridge, {"id": str(held["id"])}) == "pending"
    assert bridge("get_job_summary")["pending"] == 3
    assert {j["status"] for j in pending(bridge)} == {"pending"}


def test_lists_of_running_ended_and_hung_jobs(bridge, queue, runner):
    done, lost, alive = (queue.start(runner, job_type=name) for name in ("done", "lost", "alive"))
    failed = queue.start(queue.runner("r2"), job_type="failed", max_attempts=1)
    queue.beat(runner, alive, pid=4321)
    queue.report(runner, done, exit_code=0)
    owner = queue.value("select runner_id from persona.jobs where id = %s", failed["id"])
    queue.report(owner, failed, "failed", exit_code=3, error="broke")
    queue.expire(lost, by=timedelta(minutes=4))

    running = {j["id"]: j for j in bridge("get_running_jobs")["jobs"]}
    assert running.keys() == {str(lost["id"]), str(alive["id"])}
    assert running[str(alive["id"])]["pid"] == 4321
    assert running[str(alive["id"])]["startedAt"][10] == "T"
    ended = {j["id"]: j for j in bridge("get_completed_jobs")["jobs"]}
    assert ended[str(done["id"])]["error"] is None
    assert ended[str(done["id"])]["exitCode"] == 0
    assert ended[str(failed["id"])]["error"] == "broke"
    [only] = bridge("get_failed_jobs", "5")["jobs"]
    assert (only["id"], only["exitCode"]) == (str(failed["id"]), 3)
    assert [j["id"] for j in bridge("get_hung_jobs")["jobs"]] == [str(lost["id"])]
    assert bridge("get_hung_jobs", "20")["jobs"] == []
    assert bridge("get_job_summary") == {
        "pending": 0, "running": 1, "completed": 1, "failed": 1, "cancelled": 0, "hung": 1,
    }  # fmt: skip


def test_an_exit_code_that_is_not_known_is_left_out(bridge, action, drive):
    drive(action(), "completed")

    [job] = bridge("get_completed_jobs")["jobs"]

    assert "exitCode" not in job


# -- who drives a job --------------------------------------------------------------------------


def test_no_runner_ever_claims_a_job_of_the_plugin(bridge, action, queue, runner):
    made = action("researcher")

    assert queue.claim(runner, 10) == []
    assert queue.value("select persona.rebuild_queue()") == 0
    queue.call("update_agent", name="researcher", changes={"is_external": True})
    queue.call("update_agent", name="researcher", changes={"is_external": False})
    assert queue.claim(runner, 10) == []
    assert "driver" in queue.explain({"id": made["id"]})
    queue.act("hold_job", {"id": made["id"]})
    queue.act("release_job", {"id": made["id"]})
    assert queue.claim(runner, 10) == []
    assert pending(bridge)[0]["assignedTo"] == "researcher"


def test_the_setting_gives_agent_actions_to_runners(bridge, action, queue, runner):
    queue.call("set_setting", name="bridge_agent_action", value=json.dumps("runner"))

    made = action("researcher")

    assert pending(bridge)[0]["assignedTo"] is None
    assert [str(j["id"]) for j in queue.claim(runner, 10)] == [made["id"]]


def test_the_plugin_starts_renews_and_ends_a_job(bridge, action, drive, queue):
    made = action()
    queue.run("set application_name = 'bridge:laptop'")

    assert drive(made, "running") == {"success": True, "status": "running"}
    assert drive(made, "running")["idempotent"] is True
    lease = queue.row("select * from persona.job_leases")
    assert lease["expires_at"] - lease["heartbeat_at"] == timedelta(seconds=300)
    queue.run("update persona.job_leases set expires_at = now() - interval '1 s'")
    assert bridge("get_job_summary")["hung"] == 1
    assert bridge("heartbeat", made["shortId"]) == {"success": True}
    assert bridge("get_job_summary") | {"completed": 0} == {
        "pending": 0, "running": 1, "completed": 0, "failed": 0, "cancelled": 0, "hung": 0,
    }  # fmt: skip
    assert drive(made, "completed") == {"success": True, "status": "completed"}

    assert drive(made, "completed") == {"success": True, "status": "completed", "idempotent": True}
    [attempt] = queue.attempts({"id": made["id"]})
    assert (attempt["runner_name"], attempt["outcome"]) == ("bridge:laptop", "completed")
    [row] = queue.rows("select * from persona.runner_dashboard")
    assert (row["name"], row["running"]) == ("bridge:laptop", 0)
    assert bridge("heartbeat", made["shortId"])["success"] is False


def test_a_failure_through_the_bridge_is_final_and_says_why(bridge, action, drive, queue):
    made = action()

    assert drive(made, "failed", error="no vault")["status"] == "failed"

    found = bridge("get_job_status", made["id"])
    assert (found["status"], found["error"]) == ("failed", "no vault")
    assert drive(made, "failed", error="other")["idempotent"] is True
    assert len(queue.attempts({"id": made["id"]})) == 1
    [alert] = queue.alerts()
    assert "no vault" in alert["message"]


def test_a_pending_job_that_is_reported_ended_was_run_by_the_bridge(bridge, queue):
    queue.run("set application_name = 'bridge:mac mini'")
    job = queue.create(max_attempts=3)

    answer = bridge("update_job_status", str(job["id"]), {"status": "failed", "error": "e"})

    assert answer == {"success": True, "status": "failed"}
    [attempt] = queue.attempts(job)
    assert attempt["runner_name"] == "bridge:mac mini"


def test_fault_7_what_has_ended_stays_ended(bridge, action, drive, queue):
    """The guard of finished states compared different types and was never true."""
    for end, others in {
        "completed": ("running", "failed", "cancelled"),
        "failed": ("running", "completed", "cancelled"),
        "cancelled": ("running", "completed", "failed"),
    }.items():
        made = action(action=end)
        drive(made, end)
        before = queue.job({"id": made["id"]})
        for other in others:
            answer = queue.value(
                "select persona.bridge('update_job_status', array[%s, %s])",
                made["id"], json.dumps({"status": other}),
            )  # fmt: skip
            assert answer["success"] is False
            assert answer["idempotent"] is True
            assert end in answer["error"]
        assert queue.job({"id": made["id"]}) == before


def test_fault_5_a_second_start_leaves_the_running_agent_alone(
    bridge, drive, action, queue, runner
):
    """A second start killed the running agent before it looked at the lock."""
    mine = action()
    drive(mine, "running")
    before = queue.row("select lease, claimed_at, stop_requested from persona.job_leases")

    drive(mine, "running")
    assert queue.row("select lease, claimed_at, stop_requested from persona.job_leases") == before

    run = queue.start(runner)
    for wanted in ("running", "completed", "failed"):
        bridge("update_job_status", str(run["id"]), {"status": wanted}, error="belongs to runner r")
    assert queue.beat(runner, run) == ["keep"]
    assert bridge("heartbeat", str(run["id"]))["success"] is False


def test_a_job_that_a_runner_had_stays_with_runners(bridge, queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    bridge("update_job_status", str(run["id"]), {"status": "failed"}, error="belongs to runner")
    queue.call("recover_hung_jobs")
    assert queue.status(run) == "pending"

    bridge("update_job_status", str(run["id"]), {"status": "completed"}, error="belongs to runner")
    assert [c["id"] for c in queue.claim(runner)] == [run["id"]]


def test_a_lost_driver_ends_the_job_and_never_starts_it_again(bridge, action, drive, queue):
    made = action()
    drive(made, "running")
    queue.expire({"id": made["id"]})

    queue.call("recover_hung_jobs")

    found = bridge("get_job_status", made["id"])
    assert (found["status"], found["error"]) == ("failed", "driver lost")
    late = queue.value(
        "select persona.bridge('update_job_status', array[%s, '{\"status\": \"completed\"}'])",
        made["id"],
    )
    assert (late["success"], late["idempotent"]) == (False, True)


def test_a_lost_driver_of_a_retryable_job_ends_it_too(bridge, queue):
    queue.call("set_setting", name="rescue_cap", value="1")
    job = queue.create(max_attempts=3)
    bridge("update_job_status", str(job["id"]), {"status": "running"})
    queue.expire(job)

    queue.call("recover_hung_jobs")

    assert (queue.status(job), queue.job(job)["error"]) == ("failed", "driver lost")


def test_cancelled_means_cancel_for_any_live_job(bridge, action, drive, queue, runner):
    waiting, started = action(action="a"), action(action="b")
    drive(started, "running")
    run = queue.start(runner)

    assert drive(waiting, "cancelled", error="not now")["status"] == "cancelled"
    assert drive(started, "cancelled")["status"] == "cancelled"
    answer = bridge("update_job_status", str(run["id"]), {"status": "cancelled"})

    assert answer == {"success": True, "status": "running", "cancelRequested": True}
    assert queue.beat(runner, run) == ["cancel"]
    assert queue.job({"id": waiting["id"]})["cancel_reason"] == "not now"
    assert bridge("get_job_status", waiting["id"])["error"] is None


def test_a_job_under_a_lock_key_that_runs_elsewhere_does_not_start(bridge, queue, runner):
    queue.start(runner, lock_key="k")
    other = queue.create(lock_key="k")

    bridge("update_job_status", str(other["id"]), {"status": "running"}, error="lock key")
    assert queue.status(other) == "pending"


def test_an_external_job_that_held_a_lock_key_lets_the_next_one_go(bridge, queue, runner):
    first, second = queue.create(lock_key="k"), queue.create(lock_key="k")
    bridge("update_job_status", str(first["id"]), {"status": "running"})
    assert queue.claim(runner) == []

    bridge("update_job_status", str(first["id"]), {"status": "completed"})

    assert [c["id"] for c in queue.claim(runner)] == [second["id"]]


def test_no_runner_takes_the_name_of_a_driver(queue):
    from sqltest import refused

    with refused("PJ422", "bridge:"):
        queue.runner("bridge:laptop")


def test_a_meeting_arrives_as_the_text_of_its_prompt(bridge, queue, runner):
    meeting = {"title": "Standup", "attendees": ["Ann"]}

    made = bridge("create_job", {"type": "meeting_extract", "payload": {"meeting": meeting},
                                 "agent": "assistant"})  # fmt: skip

    payload = queue.job({"id": made["id"]})["payload"]
    assert (payload["title"], payload["meeting"]) == ("Standup", meeting)
    assert "Ann" in payload["text"]


# -- logs --------------------------------------------------------------------------------------


def test_fault_11_a_log_call_with_its_arguments_swapped_says_so(bridge, action):
    """The arguments were in the wrong order, and the call failed silently."""
    made = action()

    bridge("log_job_event", "info", made["shortId"], "started", error="Job not found")
    bridge("log_job_event", made["shortId"], "started", "info", error="level")
    bridge("log_job_event", made["shortId"], "info", error="needs")
    bridge("log_batch", made["shortId"], "info", '["a"]', error="messages")

    assert bridge("get_job_logs", made["id"]) == {"logs": []}


def test_logs_come_newest_first_with_levels_and_metadata(bridge, action, drive):
    made = action()
    bridge("log_job_event", made["shortId"], "info", "one", {"pid": 5})
    bridge("log_job_event", made["shortId"], "warning", "-")
    drive(made, "running")
    answer = bridge("log_batch", made["shortId"], ["three", "four \ud800 \x00 \\u0000"], "error")

    assert answer == {"success": True, "count": 2}
    logs = bridge("get_job_logs", made["shortId"])["logs"]
    assert [(line["level"], line["message"]) for line in logs] == [
        ("error", "four \ufffd \ufffd \\u0000"),
        ("error", "three"),
        ("warn", "-"),
        ("info", "one"),
    ]
    assert logs[-1]["metadata"] == {"pid": 5}
    assert logs[0]["metadata"] == {}
    assert logs[0]["timestamp"][10] == "T"
    assert [m["message"] for m in bridge("get_job_logs", made["id"], "1")["logs"]] == [
        logs[0]["message"]
    ]
    assert bridge("get_job_logs", "ffffffff") == {"logs": []}


def test_lines_of_a_runner_and_from_outside_are_one_log(bridge, queue, runner):
    run = queue.start(runner)
    for n in range(1, 4):
        line = {"job_id": str(run["id"]), "lease": run["lease"], "seq": n, "message": f"out {n}"}
        assert queue.one("append_logs", runner_id=runner, lines=[line])["append_logs"] == 1
        bridge("log_job_event", str(run["id"]), "info", f"said {n}")

    logs = bridge("get_job_logs", str(run["id"]), "4")["logs"]

    assert [line["message"] for line in logs] == ["said 3", "out 3", "said 2", "out 2"]


def test_local_logs_come_from_the_database(bridge, action, queue):
    made = action("cro")
    bridge("log_batch", made["shortId"], ["a", "b"])
    today = queue.value("select current_date::text")

    found = bridge("get_local_logs", "work", "cro", today)
    assert (found["source"], found["exists"], found["files_searched"]) == ("local", True, [])
    assert [line["message"] for line in found["logs"]] == ["a", "b"]
    assert bridge("get_local_logs", "work", "cto", today)["exists"] is False
    assert bridge("get_local_logs", "work", "cro", "2001-01-01")["logs"] == []
    by_id = bridge("get_local_logs", "work", "cto", "no date", made["shortId"])
    assert [line["message"] for line in by_id["logs"]] == ["a", "b"]
    assert bridge("get_local_logs", "w", "a", "no date", "ffffffff")["exists"] is False
    bridge("get_local_logs", "work", "cro", "someday", error="date")


def test_fault_12_no_text_in_a_log_makes_a_job_a_success(bridge, action, drive):
    """Success was a text marker anywhere in the output."""
    made = action()
    drive(made, "running")

    bridge(
        "log_batch", made["shortId"], ["COMPLETED", "job.completed", "[SUCCESS] status=completed"]
    )
    assert status(bridge, made) == "running"
    drive(made, "failed", error="completed nothing")
    assert status(bridge, made) == "failed"


# -- the rest ----------------------------------------------------------------------------------


def test_cancel_all_that_waits(bridge, action, queue):
    action()
    queue.create()

    assert bridge("cancel_pending_jobs", "stop") == {"cancelled": 2, "reason": "stop"}
    assert bridge("cancel_pending_jobs", "")["reason"] == "Batch cancelled - stuck in pending"


def test_daily_performance_of_agents(bridge, action, drive, queue):
    for n, end in enumerate(("completed", "completed", "failed")):
        made = action("cro", action=str(n))
        drive(made, "running")
        drive(made, end)
    drive(action("cto"), "cancelled")

    [day] = bridge("get_agent_daily_performance", "", "7")["metrics"]

    assert day.keys() == {
        "date", "agent", "jobsCompleted", "successful", "failed", "avgDurationSeconds",
        "minDurationSeconds", "maxDurationSeconds",
    }  # fmt: skip
    assert (day["date"], day["agent"]) == (queue.value("select current_date::text"), "cro")
    assert (day["jobsCompleted"], day["successful"], day["failed"]) == (3, 2, 1)
    assert 0 <= day["minDurationSeconds"] <= day["avgDurationSeconds"] <= day["maxDurationSeconds"]
    assert bridge("get_agent_daily_performance", "nobody")["metrics"] == []


@pytest.mark.parametrize(
    ("command", "args", "told"),
    [
        ("nonsense", [], "Unknown command: nonsense"),
        ("create_job", [], "needs: job"),
        ("create_job", ["{"], "valid JSON"),
        ("create_job", ["[]"], "JSON object"),
        ("create_job", ["{}"], "type"),
        ("create_job", ['{"type": "timeout", "agent": "network connection 429"}'], "agent"),
        ("create_job", ['{"type": "shell", "payload": 5, "agent": "shell"}'], "payload"),
        ("get_completed_jobs", ["many"], "limit"),
        ("get_hung_jobs", ["-5"], "minutes"),
        ("update_job_status", ["ffffffff"], "needs: id, status"),
        ("update_job_status", ["ffffffff", '{"status": "running"}'], "Job not found"),
        ("update_job_status", ["ffffffff", '{"status": "paused"}'], "one of running"),
        ("delete_event", ["x"], "msg_id"),
        ("publish_event", ["job.started", "ffffffff"], "Job not found"),
        ("publish_event", ["job.started", "-"], "about a job"),
        ("heartbeat", ["ffffffff"], "Job not found"),
    ],
)
def test_an_error_is_one_text_that_does_not_invite_to_try_again(bridge, queue, command, args, told):
    bridge(command, *args, error=told)

    assert queue.value("select count(*) from persona.jobs") == 0


def test_a_passing_trouble_invites_to_try_again(bridge, action, queue, another):
    made = action()
    other = another()
    other.run("begin")
    other.run("select 1 from persona.jobs where id = %s for update", made["id"])
    queue.run("set lock_timeout = '50ms'")

    answer = queue.value(
        "select persona.bridge('update_job_status', array[%s, '{\"status\": \"running\"}'])",
        made["id"],
    )

    assert "connection" in answer["error"]
    other.run("rollback")


def test_words_come_through_encoded(queue, action):
    message = "quote ' \" \\ :'x' $$ \u00ff\u20ac\n\t; --"
    made = action()
    words = ["log_job_event", made["id"], "info", message, ""]

    def call(raw, number):
        text = base64.encodebytes(raw).decode()
        return queue.value("select persona.bridge_encoded(%s, %s)", text, number)

    assert call(b"".join(w.encode() + b"\xff" for w in words), 5) == {"success": True}
    assert queue.value("select message from persona.job_logs") == message
    assert "UTF-8" in call(b"log_job_event\xff\xff\xff", 2)["error"]
    assert "UTF-8" in call(b"log_job_event\xffa\xc3\xff", 2)["error"]
    assert "UTF-8" in call(b"log\x00_job\xff", 1)["error"]
    assert "pending" in call(b"get_job_summary\xff", 1)
