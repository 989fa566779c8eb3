"""What comes late over a connection that a runner has replaced, and a server that is another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqltest import refused


def opened(queue, runner):
    return queue.value("select persona.open_connection(%s)", runner)


def test_a_late_claim_over_a_replaced_connection_takes_nothing(queue, runner):
    job = queue.create()
    number = opened(queue, runner)

    with refused("PJ409", "connection 0 of runner"):
        queue.call("claim_jobs", runner_id=runner, connection=0)

    assert queue.status(job) == "pending"
    assert len(queue.call("claim_jobs", runner_id=runner, connection=number)) == 1


def test_a_late_reconcile_does_not_give_back_what_was_claimed_since(queue, runner):
    number = opened(queue, runner)
    queue.create()
    [run] = queue.call("claim_jobs", runner_id=runner, connection=number)

    with refused("PJ409"):
        queue.rows("select * from persona.reconcile(%s, '[]', %s)", runner, number - 1)

    assert queue.status(run) == "running"


def test_who_names_no_connection_is_served(queue, runner):
    opened(queue, runner)
    queue.create()

    assert len(queue.claim(runner)) == 1
    assert len(queue.rows("select * from persona.reconcile(%s, '[]')", runner)) == 1


def test_opening_a_connection_waits_for_the_claim_that_is_under_way(
    queue, runner, another, wait_until_blocked
):
    queue.create()
    late, fresh = another("late"), another("fresh")

    with ThreadPoolExecutor(1) as pool:
        with late.conn.transaction():
            [run] = late.call("claim_jobs", runner_id=runner, connection=0)
            opening = pool.submit(opened, fresh, runner)
            wait_until_blocked("fresh")
        assert opening.result(timeout=10) == 1

    # Whoever reconciles from here on sees what that claim did.
    [back] = fresh.rows("select * from persona.reconcile(%s, '[]', 1)", runner)
    assert (back["job_id"], back["result_status"]) == (run["id"], "pending")


def test_a_claim_does_not_wait_while_a_connection_is_being_opened(queue, runner, another):
    queue.create()
    opening = another("opening")

    with opening.conn.transaction():
        opened(opening, runner)
        with refused("PJ409"):
            queue.call("claim_jobs", runner_id=runner, connection=0)


def fail_over(queue):
    """Make the server look like another one."""
    queue.run("update persona.server_timeline set timeline = '000000AA'")


def test_after_a_failover_nothing_is_handed_out_for_one_lease(queue, runner):
    job = queue.create()
    fail_over(queue)

    assert queue.claim(runner) == []

    pause = queue.value("select resume_at - now() from persona.server_timeline")
    assert timedelta(seconds=295) < pause <= timedelta(seconds=300)
    assert queue.explain(job).startswith("waits until")
    assert "failover" in queue.explain(job)
    state = queue.one("idle_state", runner_id=runner)
    assert state["claimable"] is False
    assert 290 < state["due_in_seconds"] <= 300


def test_what_runs_at_a_failover_runs_on_and_ends(queue, runner):
    run = queue.start(runner)
    fail_over(queue)
    queue.claim(runner)

    assert queue.beat(runner, run) == ["keep"]
    assert queue.report(runner, run)["result_status"] == "completed"


def test_after_the_pause_jobs_are_handed_out_again(queue, runner):
    queue.create()
    fail_over(queue)
    queue.claim(runner)

    queue.run("update persona.server_timeline set resume_at = now() - interval '1 second'")

    assert len(queue.claim(runner)) == 1


def test_the_pause_can_be_switched_off(queue, runner):
    queue.create()
    queue.call("set_setting", name="failover_pause", value="false")
    fail_over(queue)

    assert len(queue.claim(runner)) == 1
