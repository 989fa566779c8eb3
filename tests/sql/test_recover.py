"""Jobs that lost their runner, and runners that lost their predecessor."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from sqltest import refused

MACHINE = {"machine_id": "m", "boot_id": "b", "pid_namespace": "n"}


def recovered(queue):
    return [(row["id"], row["status"]) for row in queue.call("recover_hung_jobs")]


def test_only_a_lease_that_ran_out_is_recovered(queue, runner):
    run, alive = queue.start(runner, max_attempts=1), queue.start(runner)
    queue.run("update persona.jobs set started_at = now() - interval '9 hours'")
    queue.expire(run)

    assert recovered(queue) == [(run["id"], "pending")]

    job = queue.job(run)
    assert (job["attempt"], job["interruptions"]) == (0, 1)
    assert job["status_reason"].startswith("orphaned: lease ran out, last heartbeat ")
    assert queue.attempts(run)[0]["outcome"] == "orphaned"
    assert queue.beat(runner, alive) == ["keep"]
    assert recovered(queue) == []


def test_detect_looks_at_heartbeats_and_changes_nothing(queue, runner):
    run, old = queue.start(runner), queue.start(runner)
    queue.run("update persona.jobs set started_at = now() - interval '9 hours'")
    queue.run(
        "update persona.job_leases set heartbeat_at = now() - interval '200 s' where job_id = %s",
        old["id"],
    )

    def hung(**arguments):
        return [row["id"] for row in queue.call("detect_hung_jobs", **arguments)]

    assert hung() == []
    assert hung(timeout=timedelta(seconds=100)) == hung(seconds=100) == [old["id"]]
    assert hung(seconds=300) == []
    assert [queue.status(r) for r in (run, old)] == ["running", "running"]


def test_orphaned_3_times_it_fails_instead_of_looping(queue, runner):
    job = queue.create(max_attempts=1)
    for rescue in (1, 2, 3):
        [run] = queue.claim(runner)
        queue.expire(run)
        assert recovered(queue) == [(job["id"], "failed" if rescue == 3 else "pending")]

    found = queue.job(job)
    assert (found["error"], found["failure_kind"]) == ("orphaned 3 times", "orphaned")
    assert (found["interruptions"], len(queue.attempts(job))) == (3, 3)
    assert any("orphaned 3 times" in alert["message"] for alert in queue.alerts())
    queue.act("retry_job", job)
    assert queue.job(job)["interruptions"] == 0


def test_the_cap_is_a_setting(queue, runner):
    queue.rows("select persona.set_setting('rescue_cap', '1')")
    run = queue.start(runner)
    queue.expire(run)

    assert recovered(queue) == [(run["id"], "failed")]


def test_a_cancelled_job_whose_runner_is_gone_is_cancelled(queue, runner):
    run = queue.start(runner)
    queue.act("cancel_job", run)
    queue.expire(run)

    assert recovered(queue) == [(run["id"], "cancelled")]


def test_an_external_job_whose_driver_is_gone_fails(queue, runner):
    run = queue.start(runner)
    queue.agent(is_external=True)
    queue.expire(run)

    assert recovered(queue) == [(run["id"], "failed")]
    assert queue.job(run)["error"] == "driver lost"


def test_recovery_wakes_an_idle_runner(queue, runner, another):
    run = queue.start(runner)
    assert queue.claim(runner) == []
    queue.expire(run)
    listener = another()
    listener.listen()

    queue.call("recover_hung_jobs")

    assert "a" in listener.heard()


# -- registration ----------------------------------------------------------------------------------


def test_a_runner_is_known_by_what_it_said(queue):
    queue.agent("b")
    runner = queue.runner("w", agents=["b"], version="1.2", pid_started="77", **MACHINE)

    row = queue.row("select * from persona.runner_dashboard")
    assert (row["id"], row["name"], row["status"], row["capacity"]) == (runner, "w", "idle", 3)
    assert (row["agents"], row["version"], row["running"]) == (["b"], "1.2", 0)


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"name": " "}, "name"), ({"name": "x" * 201}, "name"), ({"capacity": 0}, "capacity"),
     ({"lease": timedelta(0)}, "lease"), ({"lease": timedelta(days=2)}, "lease"),
     ({"agents": ["a", "nobody"]}, "agents")],
)  # fmt: skip
def test_a_wrong_registration_is_refused(queue, options, argument):
    with refused("PJ422", f"^{argument} is "):
        queue.runner(**options)


@pytest.mark.parametrize(("protocol", "hint"), [(0, "Upgrade the runner"), (3, "persona db migrate"),
                                                (None, "Upgrade the runner")])  # fmt: skip
def test_another_protocol_is_refused(queue, protocol, hint):
    with refused("PJ426", "serves 1 to 2") as told:
        queue.runner(protocol=protocol)

    assert hint in told.hint
    assert told.detail == {"protocol": protocol, "min_protocol": 1, "max_protocol": 2}


def test_a_living_predecessor_is_not_replaced(queue):
    first = queue.runner("w")

    with refused("PJ409", "a runner named w is alive on host") as told:
        queue.runner("w")

    assert told.detail["runner_id"] == str(first)
    assert queue.claim(first) == []


def test_a_silent_predecessor_is_replaced_but_keeps_its_leases(queue):
    first = queue.runner("w")
    run = queue.start(first)
    queue.run("update persona.runners set last_seen_at = now() - interval '4 min'")

    second = queue.one("register_runner", name="w", hostname="host", pid=2)

    [left] = second["leftover"]
    assert (left["job_id"], left["lease"]) == (str(run["id"]), run["lease"])
    with refused("PJ410"):
        queue.claim(first)
    with refused("PJ403", "without proof"):
        queue.call("recover_predecessor", runner_id=second["id"])
    # It may be alive after all, and then it still holds what it held.
    assert queue.beat(first, run) == ["keep"]
    assert queue.report(first, run)["status"] == "ok"


def test_with_proof_the_predecessors_jobs_are_taken_over_at_once(queue):
    first = queue.runner("w", **MACHINE)
    run = queue.start(first, max_attempts=1)
    queue.beat(first, run, pid=77, pid_started="s", token=5)
    other = queue.start(queue.runner("other", **MACHINE))

    second = queue.one(
        "register_runner", name="w", hostname="host", pid=2, takeover=True, **MACHINE
    )

    [left] = second["leftover"]
    assert (left["pid"], left["pid_started"], left["token"]) == (77, "s", 5)
    assert (left["machine_id"], left["boot_id"], left["pid_namespace"]) == ("m", "b", "n")
    [back] = queue.call("recover_predecessor", runner_id=second["id"])
    assert (back["id"], back["status"]) == (run["id"], "pending")
    job = queue.job(run)
    assert (job["attempt"], job["interruptions"]) == (0, 1)
    assert queue.attempts(run)[0]["error"] == "its runner died"
    assert queue.status(other) == "running"
    assert queue.report(first, run)["status"] == "lost"


@pytest.mark.parametrize("different", ["machine_id", "pid_namespace"])
def test_proof_for_another_machine_is_none(queue, different):
    run = queue.start(queue.runner("w", **MACHINE))
    second = queue.runner("w", takeover=True, **MACHINE | {different: "other"})

    assert queue.call("recover_predecessor", runner_id=second) == []
    assert queue.status(run) == "running"


def test_a_runner_that_leaves_gives_back_what_it_holds(queue, runner):
    run = queue.start(runner)
    assert queue.claim(runner) == []

    queue.call("deregister_runner", runner_id=runner)

    assert (queue.status(run), queue.job(run)["attempt"]) == ("pending", 0)
    assert queue.value("select count(*) from persona.idle_runners") == 0
    assert queue.row("select status, ended_reason from persona.runner_dashboard") == {
        "status": "gone", "ended_reason": "stopped"}  # fmt: skip
    with refused("PJ410"):
        queue.value("select persona.runner_directive(%s)", runner)
    queue.call("deregister_runner", runner_id=runner)
    queue.call("deregister_runner", runner_id=uuid.uuid4())


def test_the_name_is_free_after_that(queue, runner):
    queue.call("deregister_runner", runner_id=runner)

    assert queue.runner() != runner


# -- tick --------------------------------------------------------------------------------------------


def tick(queue):
    return queue.value("select persona.tick()")


def test_tick_recovers_and_forgets(queue, runner):
    run = queue.start(runner)
    silent, ended = queue.runner("silent"), queue.runner("ended")
    queue.call("deregister_runner", runner_id=ended)
    queue.expire(run)
    queue.run("update persona.runners set last_seen_at = now() - interval '1 hour' where id = %s",
              silent)  # fmt: skip
    queue.run(
        "update persona.runners set ended_at = now() - interval '8 days' where id = %s", ended
    )

    done = tick(queue)

    assert (done["recovered"], done["runners_lost"]) == (1, 1)
    found = {row["name"]: row for row in queue.rows("select * from persona.runners")}
    assert set(found) == {"r", "silent"}
    assert found["silent"]["ended_reason"] == "lost"
    assert found["r"]["ended_at"] is None


def test_one_tick_at_a_time(queue, another):
    other = another()
    with other.conn.transaction():
        tick(other)
        assert tick(queue) == {"skipped": True}
    assert "recovered" in tick(queue)


def test_proof_about_another_process_takes_nothing_over(conn):
    """Two homes with one host name: each has a lock file, and proof about its own runs only."""
    register = (
        "select id, may_recover from persona.register_runner('host', 'host', %s, boot_id => 'b',"
        " machine_id => 'm', takeover => %s, predecessor_pid => %s, predecessor_boot_id => 'b')"
    )
    first, _ = conn.execute(register, (1, False, None)).fetchone()
    conn.execute("""select persona.create_job('t', '{"argv": ["x"]}', 'command')""")
    [held] = conn.execute("select id from persona.claim_job(%s)", (first,)).fetchall()

    with refused("PJ409", "is alive"):
        conn.execute(register, (3, True, 2))
    successor, may_recover = conn.execute(register, (4, True, 1)).fetchone()

    assert may_recover
    recovered = conn.execute("select id from persona.recover_predecessor(%s)", (successor,))
    assert recovered.fetchall() == [held]
