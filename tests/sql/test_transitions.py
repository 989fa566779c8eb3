"""The state machine: through the functions, and by plain UPDATE as the owner (P4)."""

from __future__ import annotations

import itertools

import pytest
from sqltest import FINISHED, refused

STATUSES = ("blocked", "pending", "running", "held", *FINISHED)
# What an owner may do by hand: all that is legal, but what a living runner would contradict (a job
# that it runs back to pending), and back from failed and cancelled, which only retry_job does.
BY_HAND = {
    "blocked": {"pending", "failed", "cancelled"},
    "pending": {"running", "held", "cancelled"},
    "running": {"held", *FINISHED},
    "held": {"pending", "cancelled"},
    "completed": set(),
    "failed": set(),
    "cancelled": set(),
}
ACTIONS = {
    "cancel_job": {
        "blocked": "cancelled", "pending": "cancelled", "running": "running", "held": "cancelled",
        "cancelled": "cancelled",
    },
    "hold_job": {"pending": "held", "running": "running", "held": "held"},
    "release_job": {"held": "pending"},
    "retry_job": {"failed": "pending", "cancelled": "pending"},
}  # fmt: skip


def make(queue, runner, status):
    """A job in that status; it has run once where that is possible."""
    if status == "blocked":
        need = queue.create(run_at="2100-01-01")
        return queue.create(depends_on=[need["id"]])
    if status == "pending":
        return queue.create()
    run = queue.start(runner, max_attempts=1)
    if status != "running":
        queue.report(runner, run, status, exit_code=5, error="e")
    assert queue.status(run) == status
    return queue.job(run)


def by_hand(queue, job, status):
    return queue.run(
        # With updated_at, as if it were one of our own statements.
        "update persona.jobs set status = %s, completed_at = case when %s then now() end,"
        " updated_at = greatest(now(), updated_at + interval '1 us')"
        " where id = %s", status, status in FINISHED, job["id"],
    )  # fmt: skip


@pytest.mark.parametrize("before", STATUSES)
def test_p4_the_whole_table_by_plain_update(queue, runner, before):
    for after in STATUSES:
        if after == before:
            continue
        job = make(queue, runner, before)
        if after in BY_HAND[before]:
            assert by_hand(queue, job, after) == 1
            assert queue.status(job) == after
            assert queue.job(job)["updated_at"] > job["updated_at"]
        else:
            with refused("PJ423", f"is {before} and cannot become {after}") as told:
                by_hand(queue, job, after)
            assert (told.detail["from"], told.detail["to"]) == (before, after)
            assert queue.job(job)["status"] == before
        assert queue.inconsistencies() == []
        queue.call("cancel_pending_jobs")


@pytest.mark.parametrize(("action", "before"), list(itertools.product(ACTIONS, STATUSES)))
def test_every_action_in_every_status(queue, runner, action, before):
    job = queue.job(make(queue, runner, before))
    after = ACTIONS[action].get(before)

    if after is None:
        with refused("PJ423", f"{job['short_id']} ") as told:
            queue.act(action, job)
        assert told.detail["from"] == before
        assert queue.job(job) == job
    else:
        assert queue.act(action, job)["status"] == queue.status(job) == after


@pytest.mark.parametrize("status", FINISHED)
@pytest.mark.parametrize(
    "change",
    ["exit_code = 0", "error = 'other'", "failure_kind = 'x'", "completed_at = now()",
     "lease = lease + 1", "attempt = 9", "result = '{}'", "completed_at = null"],
)  # fmt: skip
def test_p4_the_outcome_of_a_finished_job_stays(queue, runner, status, change):
    job = make(queue, runner, status)

    with refused("PJ423", f"has ended .{status}.: its outcome does not change"):
        queue.run(f"update persona.jobs set {change} where id = %s", job["id"])

    assert queue.job(job) == job


def test_what_is_no_outcome_may_be_corrected_by_hand(queue, runner):
    job = make(queue, runner, "completed")

    assert queue.run("update persona.jobs set tags = '{x}' where id = %s", job["id"]) == 1
    assert queue.job(job)["updated_at"] > job["updated_at"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_p4_an_old_retry_mark_does_not_let_a_job_go_again(queue, runner, status):
    job = make(queue, runner, status)
    queue.act("retry_job", job)
    [run] = queue.claim(runner)
    queue.report(runner, run, status)

    with refused("PJ423", "cannot become pending"):
        by_hand(queue, job, "pending")


def test_the_lease_number_cannot_be_taken_back_by_hand(queue, runner):
    run = queue.start(runner)

    with refused("PJ423", "only grows"):
        queue.run("update persona.jobs set lease = 0, updated_at = now() + interval '1 h'")
    assert queue.beat(runner, run) == ["keep"]


def test_a_job_that_a_runner_holds_cannot_go_back_to_pending_by_hand(queue, runner):
    run = queue.start(runner)

    with refused("PJ423", "cannot become pending") as told:
        by_hand(queue, run, "pending")

    assert "cancel_job" in told.hint
    assert queue.report(runner, run)["status"] == "ok"


def test_a_job_started_by_hand_is_nobodys_and_is_recovered(queue, runner):
    job = queue.create(lock_key="k")
    by_hand(queue, job, "running")
    started = queue.job(job)
    assert started["lease"] > job["lease"]
    assert queue.claim(runner) == []

    queue.run("update persona.job_leases set expires_at = now() - interval '1 s'")
    queue.call("recover_hung_jobs")

    assert queue.status(job) == "pending"
    [run] = queue.claim(runner)
    assert (run["id"], run["attempt"]) == (job["id"], 1)


@pytest.mark.parametrize("status", ["held", *FINISHED])
def test_a_running_job_ended_by_hand_is_lost_to_its_runner(queue, runner, status):
    run = queue.start(runner, lock_key="k")
    waiting = queue.create(lock_key="k")
    assert queue.claim(runner) == []

    by_hand(queue, run, status)

    assert queue.beat(runner, run) == ["lost"]
    [free] = queue.claim(runner)
    assert free["id"] == waiting["id"]
    assert queue.inconsistencies() == []


def test_an_unknown_status_is_refused(queue):
    job = queue.create()
    with refused("23514", "jobs_status_known"):
        queue.run(
            "insert into persona.jobs (short_id, job_type, agent, status)"
            " values ('x', 't', 'a', 'hung')"
        )
    assert queue.job(job) == job


def test_only_the_owner_who_disables_triggers_gets_past(queue, runner):
    job = make(queue, runner, "completed")
    queue.run("alter table persona.jobs disable trigger jobs_guard")

    assert queue.run("update persona.jobs set error = 'x' where id = %s", job["id"]) == 1


def test_what_is_moved_by_hand_is_in_the_queue_or_out_of_it(queue, runner):
    job = queue.create()
    by_hand(queue, job, "held")
    assert queue.claim(runner) == []
    by_hand(queue, job, "pending")
    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


# -- retry -------------------------------------------------------------------------------------------


def test_a_retried_job_starts_afresh_but_its_history_stays(queue, runner):
    run = queue.start(runner, max_attempts=1, payload={"x": 1})
    queue.beat(runner, run, progress=50, progress_text="x")
    queue.report(runner, run, "failed", exit_code=5, error="e", result={"text": "t"}, cost_usd=1)

    job = queue.act("retry_job", run)

    cleared = ("completed_at", "exit_code", "error", "failure_kind", "result", "progress",
               "progress_text", "status_reason", "cancel_reason")  # fmt: skip
    assert {name: job[name] for name in cleared} == dict.fromkeys(cleared)
    assert (job["attempt"], job["interruptions"], job["lease"]) == (0, 0, run["lease"])
    assert (job["cost_usd"], job["payload"]) == (1, {"x": 1})
    [again] = queue.claim(runner)
    assert (again["attempt"], again["lease"] > run["lease"]) == (1, True)
    queue.report(runner, again)
    assert [a["outcome"] for a in queue.attempts(run)] == ["failed", "completed"]


def test_a_retry_is_refused_while_another_job_has_its_dedupe_key(queue):
    job = queue.create(dedupe_key="k")
    queue.act("cancel_job", job)
    other = queue.create(dedupe_key="k")

    with refused("PJ423", 'another unfinished job has its dedupe key "k"'):
        queue.act("retry_job", job)
    queue.act("cancel_job", other)
    assert queue.act("retry_job", job)["status"] == "pending"


def test_a_retry_wakes_an_idle_runner(queue, runner, another):
    job = queue.create()
    queue.act("cancel_job", job)
    assert queue.claim(runner) == []
    listener = another()
    listener.listen()

    queue.act("retry_job", job)

    assert listener.heard() == ["a"]


# -- hold and release --------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "reason"), [(None, "held by hand"), ("", "held by hand"),
                                               ("look", "look")])  # fmt: skip
def test_a_held_job_says_why_and_waits(queue, runner, given, reason):
    job = queue.create()

    held = queue.act("hold_job", job, reason=given)

    assert (held["status"], held["status_reason"]) == ("held", reason)
    assert f"held: {reason}" in queue.explain(job)
    assert queue.claim(runner) == []
    released = queue.act("release_job", job)
    assert (released["status"], released["status_reason"]) == ("pending", None)


def test_holding_twice_keeps_the_first_reason(queue):
    job = queue.create()
    queue.act("hold_job", job, reason="one")

    assert queue.act("hold_job", job, reason="two")["status_reason"] == "one"


# -- cancel ------------------------------------------------------------------------------------------


def test_a_cancelled_job_says_why_and_by_what_time(queue):
    job = queue.act("cancel_job", queue.create(), reason="enough")

    assert (job["error"], job["cancel_reason"], job["failure_kind"]) == (
        "enough",
        "enough",
        "cancelled",
    )
    assert job["completed_at"] is not None
    assert queue.act("cancel_job", job, reason="again") == job


def test_the_runner_of_a_running_job_is_told(queue, runner, another):
    run = queue.start(runner)
    listener = another()
    listener.listen("persona_cancel")

    job = queue.act("cancel_job", run, reason="enough", force=True)

    assert (job["status"], job["status_reason"]) == ("running", "is being cancelled")
    assert listener.heard() == [str(runner)]
    again = queue.act("cancel_job", run)
    assert (again["cancel_reason"], again["cancel_force"]) == ("enough", True)
    assert again["cancel_requested_at"] == job["cancel_requested_at"]


def test_a_job_whose_lease_ran_out_is_cancelled_at_once(queue, runner):
    run = queue.start(runner)
    queue.expire(run)

    assert queue.act("cancel_job", run)["status"] == "cancelled"
    assert queue.attempts(run)[0]["outcome"] == "cancelled"
    assert queue.report(runner, run, "completed")["status"] == "lost"


def test_a_hung_job_that_is_held_is_held_at_once(queue, runner):
    run = queue.start(runner)
    queue.expire(run)

    job = queue.act("hold_job", run, reason="look")

    assert (job["status"], job["status_reason"], job["attempt"]) == ("held", "look", 0)


def test_the_tree_below_is_cancelled_too(queue, runner):
    top = queue.create()
    [run] = queue.claim(runner)
    done = queue.create(parent_job_id=top["id"])
    [finished] = queue.claim(runner)
    queue.report(runner, finished)
    child = queue.create(parent_job_id=done["id"])
    [child_run] = queue.claim(runner)
    waiting = queue.create(parent_job_id=child["id"])
    held = queue.act("hold_job", queue.create(parent_job_id=top["id"]))
    stranger = queue.create()

    queue.act("cancel_job", top, reason="enough")

    assert [queue.status(j) for j in (top, done, child, waiting, held, stranger)] == [
        "running", "completed", "running", "cancelled", "cancelled", "pending"]  # fmt: skip
    assert queue.beat(runner, run, child_run) == ["cancel", "cancel"]
    assert queue.job(waiting)["cancel_reason"] == "enough"


def test_without_reason_those_below_say_who_was_cancelled(queue):
    top = queue.create()
    child = queue.create(parent_job_id=top["id"])

    queue.act("cancel_job", top)

    assert queue.job(child)["cancel_reason"] == f"job {top['short_id']} above it was cancelled"


def test_one_job_alone(queue):
    top = queue.create()
    child = queue.create(parent_job_id=top["id"])

    queue.act("cancel_job", top, tree=False)

    assert queue.status(child) == "pending"


def test_cancel_pending_jobs_takes_what_has_not_started(queue, runner):
    run = queue.start(runner)
    pending, delayed = queue.create(), queue.create(run_at="2100-01-01")
    blocked = queue.create(depends_on=[run["id"]])
    held = queue.act("hold_job", queue.create())

    assert queue.one("cancel_pending_jobs", reason="stop")["cancel_pending_jobs"] == 3

    assert [queue.status(j) for j in (run, pending, delayed, blocked, held)] == [
        "running", "cancelled", "cancelled", "cancelled", "held"]  # fmt: skip
    assert queue.job(blocked)["cancel_reason"] == "stop"
    assert queue.one("cancel_pending_jobs")["cancel_pending_jobs"] == 0


# -- deleted by hand ---------------------------------------------------------------------------------


def test_a_job_that_is_deleted_by_hand_leaves_nothing_in_the_way(queue, runner):
    gone, job = queue.create(), queue.create()

    queue.run("delete from persona.jobs where id = %s", gone["id"])

    assert [r["id"] for r in queue.claim(runner)] == [job["id"]]


def test_a_running_job_that_is_deleted_by_hand_is_lost_and_frees_its_key(queue, runner):
    run = queue.start(runner, lock_key="k")
    job = queue.create(lock_key="k")
    assert queue.claim(runner) == []

    queue.run("delete from persona.jobs where id = %s", run["id"])

    assert queue.beat(runner, run) == ["lost"]
    assert queue.report(runner, run)["status"] == "lost"
    assert [r["id"] for r in queue.claim(runner)] == [job["id"]]
