"""complete_jobs: what each outcome does, and that only the holder of the lease can report (P3)."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from sqltest import refused

COUNTED = ("completed", "failed", "timeout", "idle_timeout", "cancelled")

# outcome: (status with attempts left, status after the last attempt)
EFFECTS = {
    "completed": ("completed", "completed"),
    "failed": ("pending", "failed"),
    "timeout": ("pending", "failed"),
    "idle_timeout": ("pending", "failed"),
    "cancelled": ("cancelled", "cancelled"),
    "held": ("held", "held"),
    "rate_limited": ("pending", "pending"),
    "given_back": ("pending", "pending"),
    "orphaned": ("pending", "pending"),
}


@pytest.mark.parametrize("outcome", EFFECTS)
@pytest.mark.parametrize("max_attempts", [2, 1])
def test_what_an_outcome_does(queue, runner, outcome, max_attempts):
    run = queue.start(runner, max_attempts=max_attempts)
    status = EFFECTS[outcome][max_attempts == 1]
    is_counted = outcome in COUNTED

    answer = queue.report(runner, run, outcome, exit_code=3, error="why", pid=9)

    assert (answer["status"], answer["result_status"]) == ("ok", status)
    job = queue.job(run)
    assert (job["status"], job["attempt"]) == (status, 1 if is_counted else 0)
    assert job["interruptions"] == (1 if outcome == "orphaned" else 0)
    assert job["lease"] == run["lease"]
    [attempt] = queue.attempts(run)
    assert (attempt["outcome"], attempt["is_counted"]) == (outcome, is_counted)
    assert (attempt["attempt"], attempt["lease"], attempt["pid"]) == (1, run["lease"], 9)
    assert (attempt["runner_id"], attempt["runner_name"], attempt["hostname"]) == (
        runner, "r", "host")  # fmt: skip
    assert attempt["started_at"] <= attempt["ended_at"]
    assert (len(queue.alerts()) == 1) == (status == "failed")
    assert queue.value("select count(*) from persona.job_leases") == 0
    if status == "completed":
        assert (job["error"], job["failure_kind"], attempt["error"]) == (None, None, None)
    elif status != "held":
        assert (job["error"], job["exit_code"], job["pid"]) == ("why", 3, 9)


@pytest.mark.parametrize(
    ("given", "kind", "error"),
    [
        ({"outcome": "failed"}, "unknown", "failed"),
        ({"outcome": "failed", "exit_code": 7}, "unknown", "exit code 7"),
        ({"outcome": "failed", "failure_kind": "crashed"}, "crashed", "failed"),
        ({"outcome": "timeout"}, "timeout", "timeout"),
        ({"outcome": "idle_timeout"}, "idle_timeout", "idle timeout"),
        ({"outcome": "cancelled"}, "cancelled", "cancelled"),
    ],
)
def test_a_reason_is_always_there(queue, runner, given, kind, error):
    run = queue.start(runner, max_attempts=1)

    queue.report(runner, run, **given)

    assert (queue.job(run)["failure_kind"], queue.job(run)["error"]) == (kind, error)


@pytest.mark.parametrize("kind", ["not_found", "auth", "billing"])
def test_what_will_not_get_better_is_not_tried_again(queue, runner, kind):
    run = queue.start(runner, max_attempts=5)

    assert queue.report(runner, run, "failed", failure_kind=kind)["result_status"] == "failed"


@pytest.mark.parametrize("kind", ["max_turns", "budget"])
def test_what_a_person_must_decide_is_held_and_costs_no_attempt(queue, runner, kind):
    run = queue.start(runner, max_attempts=1)

    assert queue.report(runner, run, "failed", failure_kind=kind, error="used up")[
        "result_status"] == "held"  # fmt: skip

    job = queue.job(run)
    assert (job["failure_kind"], job["attempt"], job["error"]) == (kind, 0, "used up")
    assert job["status_reason"] == f"{kind.replace('_', ' ')}: used up"
    queue.act("release_job", run)
    assert [r["id"] for r in queue.claim(runner)] == [run["id"]]


@pytest.mark.parametrize(("attempts", "status"), [(2, "pending"), (1, "failed")])
def test_an_overloaded_provider_is_tried_again_as_often_as_there_are_attempts(
    queue, runner, attempts, status
):
    run = queue.start(runner, max_attempts=attempts)

    queue.report(runner, run, "failed", failure_kind="overloaded", error="529")

    job = queue.job(run)
    assert (job["status"], job["attempt"], job["error"]) == (status, 1, "529")


@pytest.mark.parametrize(
    ("action", "status", "attempt"),
    [("retry", "pending", 1), ("wait", "pending", 0), ("hold", "held", 0), ("fail", "failed", 1)],
)
def test_what_a_kind_of_failure_leads_to_can_be_set(queue, runner, action, status, attempt):
    queue.one("set_failure_policy", kind="tool_error", action=action, wait=timedelta(seconds=7))
    run = queue.start(runner, max_attempts=2)

    queue.report(runner, run, "failed", failure_kind="tool_error", error="grep")

    job = queue.job(run)
    assert (job["status"], job["attempt"]) == (status, attempt)
    if action == "wait":
        assert 6.9 < (job["run_at"] - job["updated_at"]).total_seconds() < 7.1


def test_a_policy_that_makes_no_sense_is_refused(queue):
    with refused("PJ422", "action"):
        queue.one("set_failure_policy", kind="auth", action="pray")
    with refused("PJ422", "gate"):
        queue.one("set_failure_policy", kind="auth", action="fail", gate="ajar")


def test_p14_exhausted_attempts_end_in_failed_with_the_reason_and_an_alert(queue, runner):
    run = queue.start(runner, max_attempts=2)
    queue.report(runner, run, "failed", error="first")
    assert queue.alerts() == []
    queue.make_due(run)
    [run] = queue.claim(runner)
    assert (run["attempt"], queue.job(run)["error"]) == (2, None)

    queue.report(runner, run, "failed", error="second")

    job = queue.job(run)
    assert (job["status"], job["error"], job["attempt"]) == ("failed", "second", 2)
    assert [a["error"] for a in queue.attempts(run)] == ["first", "second"]
    [alert] = queue.alerts()
    assert (alert["kind"], alert["job_id"]) == ("job_failed", run["id"])
    assert "failed after 2 attempt(s): second" in alert["message"]
    assert queue.call("job_summary")[0]["unseen_alerts"] == 1
    assert queue.one("acknowledge_alerts")["acknowledge_alerts"] == 1
    assert queue.call("job_summary")[0]["unseen_alerts"] == 0


# -- when it runs again ----------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "longest"), [(1, 10), (2, 20), (4, 80), (50, 3600)])
def test_backoff_doubles_with_jitter_up_to_a_cap(queue, runner, attempt, longest):
    run = queue.start(runner, max_attempts=100)
    queue.run("update persona.jobs set attempt = %s", attempt)

    queue.report(runner, run, "failed")

    job = queue.job(run)
    delay = (job["run_at"] - job["updated_at"]).total_seconds()
    assert longest / 2 - 0.1 <= delay <= longest + 0.1
    assert queue.claim(runner) == []


def test_jobs_that_failed_together_do_not_come_back_together(queue):
    delays = queue.rows("select persona._retry_delay(3) as d from generate_series(1, 50)")

    assert len({row["d"] for row in delays}) > 40


def test_a_later_time_asked_for_wins_over_the_backoff(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "failed", retry_in=5000)
    job = queue.job(run)
    assert 4999 < (job["run_at"] - job["updated_at"]).total_seconds() < 5001

    queue.make_due(run)
    [run] = queue.claim(runner)
    queue.report(runner, run, "failed", retry_at="2000-01-01T00:00:00Z")
    job = queue.job(run)
    assert (job["run_at"] - job["updated_at"]).total_seconds() >= 9.9


@pytest.mark.parametrize(("given", "seconds"), [({}, 300), ({"retry_in": 17}, 17)])
def test_a_rate_limit_waits_and_costs_no_attempt(queue, runner, given, seconds):
    run = queue.start(runner, max_attempts=1)

    queue.report(runner, run, "rate_limited", **given)

    job = queue.job(run)
    assert (job["status"], job["attempt"]) == ("pending", 0)
    assert seconds - 1 < (job["run_at"] - job["updated_at"]).total_seconds() < seconds + 1


def test_what_was_interrupted_runs_again_at_once(queue, runner):
    run = queue.start(runner, max_attempts=1)
    job = queue.one("give_back_job", runner_id=runner, job_id=run["id"], lease=run["lease"])

    assert (job["status"], job["attempt"]) == ("pending", 0)
    assert job["status_reason"] == "given back: runner drained"
    [again] = queue.claim(runner)
    assert again["attempt"] == 1


# -- only the holder, and once ---------------------------------------------------------------------


@pytest.mark.parametrize("outcome", EFFECTS)
def test_p3_the_same_report_again_succeeds_and_changes_nothing(queue, runner, outcome):
    run = queue.start(runner, max_attempts=1)
    queue.report(runner, run, outcome, exit_code=1, cost_usd=2, tokens={"input": 5})
    before = queue.job(run), queue.attempts(run), queue.alerts()

    answer = queue.report(runner, run, outcome, exit_code=1, cost_usd=2, tokens={"input": 5})

    assert answer["status"] == "repeated"
    assert answer["result_status"] == before[0]["status"]
    assert (queue.job(run), queue.attempts(run), queue.alerts()) == before
    assert queue.value("select count(*) from persona.cost_ledger") == 1


def test_p3_a_report_repeated_after_the_next_claim_changes_nothing(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "given_back")
    [again] = queue.claim(runner)

    assert queue.report(runner, run, "given_back")["status"] == "repeated"
    assert queue.beat(runner, again) == ["keep"]


def test_p3_a_late_report_is_kept_and_not_applied(queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    queue.call("recover_hung_jobs")
    [again] = queue.claim(queue.runner("second"))
    before = queue.job(run)

    answer = queue.report(runner, run, "completed", result={"text": "late"}, cost_usd=1)

    assert answer["status"] == "lost"
    assert queue.job(run) == before
    assert queue.beat(before["runner_id"], again) == ["keep"]
    [attempt] = queue.attempts(run)
    assert attempt["outcome"] == "orphaned"
    assert attempt["stale_result"]["result"] == {"text": "late"}
    assert attempt["stale_result"]["outcome"] == "completed"
    # The first one stays.
    queue.report(runner, run, "failed")
    assert queue.attempts(run)[0]["stale_result"]["outcome"] == "completed"


@pytest.mark.parametrize("who", ["stranger", "other lease", "other runner", "unknown job"])
def test_p3_nobody_else_can_report(queue, runner, who):
    run = queue.start(runner)
    before = queue.job(run)
    wrong = {
        "stranger": (uuid.uuid4(), run),
        "other lease": (runner, run | {"lease": run["lease"] - 1}),
        "other runner": (queue.runner("second"), run),
        "unknown job": (runner, run | {"id": uuid.uuid4()}),
    }
    by, what = wrong[who]

    assert queue.report(by, what)["status"] == "lost"
    with refused("PJ410", "does not hold lease") as told:
        queue.one("complete_job", runner_id=by, job_id=what["id"], lease=what["lease"])

    assert told.detail["job_id"] == str(what["id"])
    assert queue.job(run) == before
    assert queue.attempts(run) == []
    assert queue.report(runner, run)["status"] == "ok"


def test_a_batch_answers_for_each_and_never_raises_for_one(queue, runner):
    runs = [queue.start(runner) for _ in range(4)]
    good, unknown, none, last = runs
    answers = queue.call("complete_jobs", runner_id=runner, items=[
        {"job_id": str(good["id"]), "lease": good["lease"], "outcome": "completed"},
        {"job_id": str(unknown["id"]), "lease": unknown["lease"], "outcome": "exploded"},
        {"job_id": str(none["id"]), "lease": none["lease"]},
        {"job_id": str(uuid.uuid4()), "lease": 1, "outcome": "failed"},
        {"outcome": "failed"},
        {"job_id": str(last["id"]), "lease": last["lease"], "outcome": "failed"},
    ])  # fmt: skip

    found = {(a["job_id"], a["status"]) for a in answers}
    assert len(answers) == 6
    assert {(good["id"], "ok"), (unknown["id"], "invalid"), (none["id"], "invalid"),
            (last["id"], "ok"), (None, "lost")} <= found  # fmt: skip
    assert [queue.status(r) for r in runs] == ["completed", "running", "running", "pending"]


@pytest.mark.parametrize(
    "outcome",
    [{}, {"outcome": None}, {"outcome": ["completed"]}, {"outcome": {"is": "completed"}}],
    ids=["none", "null", "in an array", "in an object"],
)
def test_only_the_word_itself_completes_a_job(queue, runner, outcome):
    """Batches of nothing but completed jobs are told apart before they are taken apart."""
    run = queue.start(runner)
    item = {"job_id": str(run["id"]), "lease": run["lease"]} | outcome

    answers = queue.call("complete_jobs", runner_id=runner, items=[item])

    assert [a["status"] for a in answers] == ["invalid"]
    assert queue.status(run) == "running"


def test_the_same_item_twice_in_one_batch_is_one_report(queue, runner):
    run, other = queue.start(runner), queue.start(runner)
    item = {"job_id": str(run["id"]), "lease": run["lease"], "outcome": "completed", "cost_usd": 1}

    answers = queue.call("complete_jobs", runner_id=runner, items=[
        item, item, {"job_id": str(other["id"]), "lease": other["lease"], "outcome": "failed"}])  # fmt: skip

    assert {(a["job_id"], a["status"]) for a in answers} == {(run["id"], "ok"), (other["id"], "ok")}
    assert len(queue.attempts(run)) == 1
    assert queue.job(run)["cost_usd"] == 1


def test_the_single_form_judges_by_the_exit_code(queue, runner):
    def end(**more):
        run = queue.start(runner, max_attempts=1)
        return queue.one(
            "complete_job", runner_id=runner, job_id=run["id"], lease=run["lease"], **more
        )["status"]

    assert end() == "completed"
    assert end(exit_code=0) == "completed"
    assert end(exit_code=1) == "failed"
    assert end(error="x") == "failed"
    assert end(exit_code=1, outcome="completed") == "completed"
    run = queue.start(runner)
    with refused("PJ422", "outcome is"):
        queue.one("complete_job", runner_id=runner, job_id=run["id"], lease=run["lease"],
                  outcome="exploded")  # fmt: skip


def test_what_is_no_array_is_refused(queue, runner):
    for function, argument in (("complete_jobs", "items"), ("append_logs", "lines")):
        with refused("PJ422", argument):
            queue.call(function, **{"runner_id": runner, argument: {"x": 1}})


# -- what comes back ---------------------------------------------------------------------------------


def test_a_completed_job_has_the_answer_of_that_execution_only(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "failed", result={"text": "half"}, session_id="s1", model="m1")
    queue.make_due(run)
    [run] = queue.claim(runner)
    assert run["session_id"] == "s1"
    queue.report(runner, run, "completed")

    job = queue.job(run)
    assert (job["result"], job["session_id"], job["model"]) == (None, "s1", "m1")
    assert [a["result"] for a in queue.attempts(run)] == [{"text": "half"}, None]


def test_costs_and_tokens_add_up_over_attempts(queue, runner):
    run = queue.start(runner, business="acme")
    queue.report(runner, run, "failed", cost_usd=0.25, tokens={"input": 10, "output": 1}, model="m")
    queue.make_due(run)
    [run] = queue.claim(runner)
    queue.report(runner, run, "completed", cost_usd=0.5, tokens={"input": 5, "cacheRead": 7})

    job = queue.job(run)
    assert job["cost_usd"] == Decimal("0.75")
    assert job["tokens"] == {"input": 15, "output": 1, "cacheRead": 7}
    assert [a["cost_usd"] for a in queue.attempts(run)] == [Decimal("0.25"), Decimal("0.5")]
    ledger = queue.rows("select * from persona.cost_ledger order by id")
    assert [(r["kind"], r["amount_usd"], r["business"], r["agent"]) for r in ledger] == [
        ("booked", Decimal("0.25"), "acme", "a"), ("booked", Decimal("0.5"), "acme", "a")]  # fmt: skip
    [day] = queue.rows("select sum(cost_usd) as usd from persona.cost_by_day")
    assert day["usd"] == Decimal("0.75") == queue.call("job_summary")[0]["cost_today"]


def test_a_cost_of_the_whole_conversation_is_booked_once(queue, runner):
    run = queue.start(runner)
    both = {"is_cumulative_cost": True, "session_id": "s"}
    queue.report(runner, run, "failed", cost_usd=0.25, **both)
    queue.make_due(run)
    [run] = queue.claim(runner)
    queue.report(runner, run, "completed", cost_usd=0.4, **both)

    assert queue.job(run)["cost_usd"] == Decimal("0.4")
    assert queue.attempts(run)[1]["cost_usd"] == Decimal("0.15")


@pytest.mark.parametrize(
    "odd", [{"input": "many"}, {"cache": {"x": 1}}, [1], "x", 5, {"input": None}]
)
def test_odd_tokens_spoil_no_report(queue, runner, odd):
    run = queue.start(runner)
    queue.report(runner, run, "failed", tokens={"input": 1})
    queue.make_due(run)
    [run] = queue.claim(runner)

    assert queue.report(runner, run, "completed", tokens=odd)["status"] == "ok"
    assert queue.job(run)["tokens"]["input"] == 1


def test_progress_is_kept_at_the_end(queue, runner):
    run = queue.start(runner)
    queue.beat(runner, run, progress=80, progress_text="writing")
    queue.report(runner, run)

    job = queue.job(run)
    assert (job["progress"], job["progress_text"]) == (80, "writing")


# -- a stop that was asked for -----------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "timeout", "cancelled", "orphaned", "given_back"])
def test_a_cancel_decides_however_the_execution_ended(queue, runner, outcome):
    run = queue.start(runner)
    queue.act("cancel_job", run, reason="enough")

    queue.report(runner, run, outcome, exit_code=143)

    job = queue.job(run)
    assert (job["status"], job["error"], job["failure_kind"]) == (
        "cancelled",
        "enough",
        "cancelled",
    )
    assert queue.attempts(run)[0]["outcome"] == "cancelled"


def test_a_job_that_was_done_before_the_cancel_reached_it_is_completed(queue, runner):
    run = queue.start(runner)
    queue.act("cancel_job", run)

    assert queue.report(runner, run, result={"text": "x"})["result_status"] == "completed"


def test_a_hold_costs_no_attempt_and_keeps_its_reason(queue, runner):
    run = queue.start(runner, max_attempts=1)
    queue.act("hold_job", run, reason="look first")
    assert queue.status(run) == "running"
    queue.report(runner, run, "cancelled", exit_code=143)

    job = queue.job(run)
    assert (job["status"], job["status_reason"], job["attempt"]) == ("held", "look first", 0)
    queue.act("release_job", run)
    [again] = queue.claim(runner)
    assert (again["attempt"], queue.job(again)["cancel_requested_at"]) == (1, None)
    assert queue.beat(runner, again) == ["keep"]


def test_a_cancel_is_not_taken_back_by_a_hold_but_a_hold_by_a_cancel(queue, runner):
    one, two = queue.start(runner), queue.start(runner)
    for function in ("cancel_job", "hold_job"):
        queue.act(function, one)
    for function in ("hold_job", "cancel_job"):
        queue.act(function, two)
    assert queue.job(one)["status_reason"] == "is being cancelled"

    for run in (one, two):
        assert queue.report(runner, run, "cancelled")["result_status"] == "cancelled"


# -- reconcile ---------------------------------------------------------------------------------------


def test_reconcile_gives_back_what_the_runner_never_heard_of(queue, runner):
    held, lost = queue.start(runner), queue.start(runner)
    other = queue.start(queue.runner("second"))

    told = queue.call(
        "reconcile", runner_id=runner, held=[{"job_id": str(held["id"]), "lease": held["lease"]}]
    )

    assert [(t["job_id"], t["status"], t["result_status"]) for t in told] == [
        (lost["id"], "ok", "pending")]  # fmt: skip
    assert [queue.status(r) for r in (held, lost, other)] == ["running", "pending", "running"]
    assert queue.job(lost)["attempt"] == 0
    assert queue.attempts(lost)[0]["error"] == "the answer to its claim was lost"


def test_reconcile_with_an_old_lease_gives_the_new_one_back(queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    queue.call("recover_hung_jobs")
    [again] = queue.claim(runner)

    told = queue.call(
        "reconcile", runner_id=runner, held=[{"job_id": str(run["id"]), "lease": run["lease"]}]
    )

    assert [t["lease"] for t in told] == [again["lease"]]


def test_reconcile_of_a_stranger_is_refused(queue, runner):
    with refused("PJ410"):
        queue.rows("select * from persona.reconcile(%s, '[]')", uuid.uuid4())
    assert queue.rows("select * from persona.reconcile(%s, null)", runner) == []


def test_an_expired_lease_may_still_be_reported_while_nobody_took_it(queue, runner):
    run = queue.start(runner)
    queue.expire(run, by=timedelta(hours=1))

    assert queue.report(runner, run)["status"] == "ok"
