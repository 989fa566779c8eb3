"""get_metrics: what monitoring asks, and counters that only grow."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from sqltest import Queue, refused


@pytest.fixture
def metrics(queue):
    """Read samples: {name: {labels as text: value}}."""

    def read():
        found = {}
        for row in queue.call("get_metrics"):
            labels = ",".join(f"{k}={v}" for k, v in sorted(row["labels"].items()) if v != "")
            samples = found.setdefault(row["name"], {})
            assert labels not in samples, (row["name"], labels)
            samples[labels] = row["value"]
            assert row["kind"] in {"counter", "gauge", "histogram"}
            assert row["help"].endswith(".")
        return found

    return read


def test_a_queue_as_it_is(queue, runner, metrics):
    queue.create(priority=1)
    queue.create(run_at="2100-01-01")
    queue.create(lock_key="k")
    held = queue.create()
    queue.act("hold_job", held)
    queue.claim(runner)

    found = metrics()

    assert found["persona_queue_jobs"] == {"agent=a,state=ready": 1, "agent=a,state=time": 1}
    assert found["persona_queue_oldest_seconds"]["agent=a"] >= 0
    assert found["persona_running_jobs"] == {"agent=a,runner=r": 1}
    assert found["persona_waiting_jobs"] == {"status=held": 1}
    assert found["persona_hung_jobs"] == {"": 0}
    assert found["persona_claims_total"] == {"agent=a": 1}
    assert found["persona_runner_capacity"] == {"runner=r": 3}
    assert found["persona_heartbeat_seconds"]["runner=r"] >= 0
    assert 0 <= found["persona_notification_queue_ratio"][""] <= 1
    assert found["persona_table_bytes"]["table=jobs"] > 0


def test_executions_are_counted_by_outcome_and_a_tick_changes_nothing(
    queue, runner, metrics, eventually
):
    def is_summed(executions):
        # What a transaction of another test's database has in its view is left for a later tick.
        queue.call("tick")
        return queue.value("select sum(executions) from persona.execution_totals") == executions

    queue.call("register_job_type", name="known", default_agent="a")
    for job_type, outcome, kind in (
        ("known", "completed", None), ("known", "failed", "crashed"), ("whatever a client says", "completed", None),
    ):  # fmt: skip
        run = queue.start(runner, job_type=job_type, max_attempts=1)
        queue.report(runner, run, outcome, **({"failure_kind": kind} if kind else {}))
    before = metrics()

    eventually(lambda: is_summed(3))
    run = queue.start(runner, job_type="known", max_attempts=1)
    queue.report(runner, run)
    after = metrics()

    completed = "agent=a,job_type=known,outcome=completed"
    assert before["persona_executions_total"] == {
        completed: 1,
        "agent=a,failure_kind=crashed,job_type=known,outcome=failed": 1,
        "agent=a,job_type=other,outcome=completed": 1,
    }
    assert after["persona_executions_total"] == before["persona_executions_total"] | {completed: 2}
    assert after["persona_claims_total"] == {"agent=a": 4}
    assert queue.value("select sum(executions) from persona.execution_totals") == 3
    eventually(lambda: is_summed(4))
    assert is_summed(4)


def test_durations_are_cumulative_buckets(queue, runner, metrics):
    for seconds in (0, 10, 100_000):
        run = queue.start(runner, max_attempts=1)
        queue.run(
            "update persona.job_leases set claimed_at = now() - make_interval(secs => %s)", seconds
        )
        queue.run("update persona.jobs set started_at = now() - make_interval(secs => %s) where id = %s",
                  seconds, run["id"])  # fmt: skip
        queue.report(runner, run)

    found = metrics()

    buckets = found["persona_execution_seconds_bucket"]
    assert [
        buckets[f"agent=a,job_type=other,le={le}"]
        for le in ("1", "5", "15", "60", "300", "900", "3600", "14400", "+Inf")
    ] == [1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert found["persona_execution_seconds_count"]["agent=a,job_type=other"] == 3
    assert found["persona_execution_seconds_sum"]["agent=a,job_type=other"] >= 100_010


def test_counters_do_not_fall_with_the_retention_of_jobs(queue, runner, metrics):
    run = queue.start(runner)
    queue.report(runner, run)
    before = metrics()["persona_executions_total"]
    queue.call("tick")
    queue.call("cleanup_old_jobs", days=0)
    assert queue.value("select count(*) from persona.jobs") == 0

    assert metrics()["persona_executions_total"] == before


def test_an_execution_that_commits_late_is_counted_once(queue, runner, metrics, another):
    first, second = queue.start(runner), queue.start(runner)
    late = another("late")
    late.run("begin")
    late.report(runner, first)
    queue.report(runner, second)
    queue.call("tick")
    assert metrics()["persona_executions_total"] == {"agent=a,job_type=other,outcome=completed": 1}

    late.run("commit")
    for _ in range(2):
        found = metrics()
        assert found["persona_executions_total"] == {"agent=a,job_type=other,outcome=completed": 2}
        queue.call("tick")


def test_after_a_restore_into_another_server_counting_goes_on(queue, runner, metrics):
    queue.run("update persona.execution_cursor set counted_xid = 900000000000")
    queue.call("tick")
    queue.report(runner, queue.start(runner))

    assert metrics()["persona_executions_total"] == {"agent=a,job_type=other,outcome=completed": 1}


def test_gates_budgets_costs_and_alerts(queue, runner, metrics):
    queue.agent("paid", provider="p", costs_money=True)
    queue.call("set_budget", name="month", limit_usd=10, period="month", scope="total")
    run = queue.start(runner, agent="paid", business="acme")
    queue.report(runner, run, cost_usd=1.5)
    queue.call("close_gate", provider="p", reason="x")

    found = metrics()

    assert found["persona_gate_open"] == {"provider=p": 0}
    assert found["persona_cost_usd_total"] == {"agent=paid,business=acme": 1.5}
    assert found["persona_budget_limit_usd"] == {"budget=month": 10}
    assert found["persona_budget_used_usd"] == {"budget=month": 1.5}


def test_finished_jobs_are_kept_for_as_long_as_the_setting_says(queue, runner):
    days = timedelta(days=8)
    old, young = queue.start(runner, id=queue.old_id(days)), queue.start(runner)
    for run in (old, young):
        queue.report(runner, run)
    queue.age(old, days)
    queue.run("alter table persona.jobs disable trigger jobs_tenant")
    queue.call("tick")
    assert queue.value("select count(*) from persona.jobs") == 2

    queue.call("set_setting", name="job_retention_days", value="7")
    queue.call("tick")

    assert queue.rows("select id from persona.jobs") == [{"id": young["id"]}]


def test_a_tenant_is_refused(queue, databases, database):
    role = f"m_{database}"
    queue.run(f"create role {role} login password 'persona' in role persona_viewer")
    try:
        queue.call("assign_tenant", role_name=role, businesses=["b"])
        with psycopg.connect(databases.dsn(database, user=role)) as tenant:
            with refused("PJ403", "all businesses"):
                Queue(tenant).call("get_metrics")
    finally:
        queue.run(f"drop role {role}")
