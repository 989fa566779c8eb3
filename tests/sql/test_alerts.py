"""Alerts: what raises one, and the jobs that deliver them."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqltest import Queue, refused


def deliveries(queue):
    return queue.rows("select * from persona.jobs where agent = 'alert' order by seq")


def rule(queue, name="r", **given):
    return queue.call("set_alert_rule", name=name, **{"delivery": {"to": "webhook"}} | given)


def fail(queue, runner, **report):
    run = queue.start(runner, max_attempts=1)
    queue.report(runner, run, "failed", **report)
    return run


def raise_alert(queue, kind="gate_closed", job=None, detail=None, key=None):
    return queue.value(
        "select persona._raise_alert(%s, %s, 'm', %s, %s)",
        kind, job and job["id"], detail or {}, key,
    )  # fmt: skip


def test_without_a_rule_an_alert_is_kept_and_nothing_is_sent(queue, runner):
    run = fail(queue, runner, error="boom", failure_kind="crashed")

    [alert] = queue.alerts()
    assert (alert["kind"], alert["job_id"]) == ("job_failed", run["id"])
    assert alert["detail"]["failure_kind"] == "crashed"
    assert alert["detail"]["is_exhausted"]
    assert deliveries(queue) == []


def test_a_rule_makes_a_job_that_a_client_may_not_create(queue, databases, dsn, runner):
    rule(queue)
    fail(queue, runner, error="boom")

    [job] = deliveries(queue)
    assert job["payload"]["delivery"] == {"to": "webhook"}
    assert "boom" in job["payload"]["alerts"][0]["message"]
    queue.run("create role alert_client login password 'persona' in role persona_client")
    try:
        with psycopg.connect(make_conninfo(dsn, user="alert_client"), autocommit=True) as conn:
            with refused("PJ403", "admin"):
                Queue(conn).create("alert", agent="alert")
    finally:
        queue.run("drop role alert_client")


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"failure_kind": ["auth", "billing"]}, True),
        ({"failure_kind": ["crashed"]}, False),
        ({"failure_kind": "auth", "is_exhausted": True}, True),
        ({"percent": 80}, False),
        ({"agent": "b"}, False),
    ],
)
def test_a_rule_sends_what_fits_its_condition(queue, runner, condition, fits):
    rule(queue, kind="job_failed", condition=condition)

    fail(queue, runner, failure_kind="auth", error="401")

    assert bool(deliveries(queue)) is fits


def test_budgets_alert_at_80_and_at_100_percent_by_two_rules(queue):
    rule(queue, "warn", kind="budget", condition={"percent": 80})
    rule(queue, "stop", kind="budget", condition={"percent": 100})

    raise_alert(queue, "budget", detail={"percent": 84})
    assert [j["payload"]["rule"] for j in deliveries(queue)] == ["warn"]
    raise_alert(queue, "budget", detail={"percent": 100})

    assert sorted(j["payload"]["rule"] for j in deliveries(queue)) == ["stop", "warn"]


def test_a_storm_of_failures_is_one_message(queue, runner):
    rule(queue)
    for _ in range(60):
        raise_alert(queue)

    [job] = deliveries(queue)
    assert len(job["payload"]["alerts"]) == 50
    assert job["payload"]["more"] == 10
    assert queue.value("select count(*) from persona.alerts") == 60


def test_what_comes_while_a_delivery_runs_makes_the_next_one(queue, runner):
    rule(queue)
    raise_alert(queue)
    assert len(queue.claim(runner)) == 1

    raise_alert(queue)

    assert [j["status"] for j in deliveries(queue)] == ["running", "pending"]


def test_a_failed_delivery_raises_no_alert(queue, runner):
    rule(queue)
    raise_alert(queue)
    queue.run("update persona.agents set max_attempts = 1 where name = 'alert'")
    queue.run("update persona.jobs set max_attempts = 1 where agent = 'alert'")
    [run] = queue.claim(runner)

    queue.report(runner, run, "failed", error="no answer")

    assert queue.status(run) == "failed"
    assert len(queue.alerts()) == 1
    assert len(deliveries(queue)) == 1


def test_one_key_is_one_alert(queue):
    rule(queue)
    assert raise_alert(queue, key="gate:1") is not None

    assert raise_alert(queue, key="gate:1") is None

    assert len(queue.alerts()) == 1


def test_a_hung_job_is_one_alert_an_episode(queue, runner):
    rule(queue, kind="job_hung")
    run = queue.start(runner)
    queue.expire(run)
    queue.call("recover_hung_jobs")
    queue.call("recover_hung_jobs")

    [alert] = queue.alerts()
    assert alert["kind"] == "job_hung"
    assert "pending now" in alert["message"]
    [again] = [r for r in queue.claim(runner, 5) if r["id"] == run["id"]]
    queue.expire(again)
    queue.call("recover_hung_jobs")
    assert [a["kind"] for a in queue.alerts()] == ["job_hung", "job_hung"]


def test_a_queue_that_is_too_old_alerts_once_until_it_was_well_again(queue, runner):
    rule(queue, kind="queue_age", condition={"seconds": 600, "agent": "a"})
    job = queue.create()
    queue.call("tick")
    assert queue.alerts() == []

    def grow_old(made):
        queue.run(
            "update persona.jobs set run_at = now() - interval '1 hour' where id = %s", made["id"]
        )
        queue.call("tick")

    grow_old(job)
    queue.call("tick")
    assert [a["kind"] for a in queue.alerts()] == ["queue_age"]
    assert len(deliveries(queue)) == 1
    [run] = [r for r in queue.claim(runner, 3) if r["agent"] == "a"]
    queue.report(runner, run)
    queue.call("tick")
    grow_old(queue.create())

    assert len(queue.alerts()) == 2


def test_an_address_is_never_stored(queue):
    with refused("PJ422", "never the address itself"):
        rule(queue, delivery={"to": "webhook", "url_from": "https://hooks.example/secret"})
    with refused("PJ422", "keys are"):
        rule(queue, delivery={"to": "webhook", "url": "https://hooks.example/secret"})
    rule(queue, delivery={"to": "slack", "url_from": "ALERT_SLACK_URL"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "A B"},
        {"kind": "weather"},
        {"delivery": {"to": "pigeon"}},
        {"delivery": {"to": "command"}},
        {"condition": [{}]},
    ],
)
def test_a_rule_that_cannot_work_is_refused(queue, wrong):
    with refused("PJ422"):
        rule(queue, **wrong)


def test_a_test_goes_through_a_rule_whatever_it_watches(queue):
    rule(queue, "quiet", kind="budget", condition={"percent": 100})

    queue.call("test_alert", rule="quiet")

    assert len(deliveries(queue)) == 1
    assert queue.one("job_summary")["unseen_alerts"] == 0
    with refused("PJ404"):
        queue.call("test_alert", rule="none")
