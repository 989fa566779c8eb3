"""What people look at: explain_job, listings, summaries and views."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqltest import refused

FAR = datetime(2100, 1, 1, tzinfo=UTC)

# The names that others rely on; more may follow them.
COLUMNS = {
    "job_dashboard": "short_id job_type status hung agent hostname pid duration_seconds progress"
    " task_preview waiting_for",
    "job_statistics": "job_type total completed failed cancelled success_rate mean_seconds"
    " p50_seconds p95_seconds",
    "agent_workload": "agent is_active is_external pending running max_concurrent completed_24h"
    " failed_24h program description",
    "runner_dashboard": "id name hostname pid status capacity running agents version last_seen_at"
    " registered_at",
    "cost_by_day": "day agent business model cost_usd",
    "throughput_by_hour": "hour created completed failed hung completion_rate",
    "queue_health": "oldest_pending_seconds dead_tuples oldest_snapshot_pid"
    " notification_queue_usage",
}


@pytest.mark.parametrize("view", COLUMNS)
def test_the_columns_of_a_view_keep_their_names(queue, runner, view):
    run = queue.start(runner)
    queue.report(runner, run, cost_usd=1, model="m")

    row = queue.rows(f"select * from persona.{view}")[0]

    assert set(COLUMNS[view].split()) <= set(row)


# -- explain -----------------------------------------------------------------------------------------


def test_explain_what_has_ended(queue, runner):
    done, failed = queue.start(runner), queue.start(runner, max_attempts=1)
    queue.report(runner, done)
    queue.report(runner, failed, "failed", error="no such file")
    gone = queue.act("cancel_job", queue.create(), reason="enough")
    silent = queue.act("cancel_job", queue.create())

    assert queue.explain(done).startswith("completed ")
    assert queue.explain(failed) == "failed after 1 of 1 attempts: no such file"
    assert queue.explain(gone).endswith(": enough")
    assert queue.explain(silent).endswith(": no reason given")


def test_explain_what_runs(queue, runner):
    run = queue.start(runner)
    assert queue.explain(run).startswith("running on r on host, attempt 1 of 3, last heartbeat 0 s")
    queue.act("cancel_job", run)
    assert queue.explain(run).endswith("; is being cancelled")
    queue.expire(run)
    assert queue.explain(run).startswith("hung: no heartbeat from r on host since ")


def test_explain_what_waits_for_jobs(queue):
    needs = [queue.create() for _ in range(7)]
    job = queue.create(depends_on=[n["id"] for n in needs])

    text = queue.explain(job)

    assert text.startswith("waits for 7 job(s): ")
    assert text.count("(pending)") == 5
    assert text.endswith(", ...")


def test_explain_what_could_run(queue):
    first, second = queue.create(), queue.create()
    assert queue.explain(first) == (
        "waits: no live runner serves agent a; start one with persona-worker"
    )
    queue.runner("b", agents=["researcher"])
    assert "no live runner" in queue.explain(first)
    queue.runner()
    assert queue.explain(first) == "ready: 0 job(s) of agent a go first"
    assert queue.explain(second) == "ready: 1 job(s) of agent a go first"
    queue.one("drain_runner", ref="r")
    assert "no live runner" in queue.explain(first)


def test_explain_each_thing_that_stands_in_the_way(queue, runner):
    queue.agent(provider="acme")
    run = queue.start(runner, lock_key="k")
    queue.agent("ext", is_external=True)

    assert "until 2100-01-01" in queue.explain(queue.create(run_at=FAR))
    assert queue.explain(queue.create(lock_key="k")) == (
        f'waits: job {run["short_id"]} is running under the same lock key "k"')  # fmt: skip
    assert "agent ext is external" in queue.explain(queue.create(agent="ext"))
    job = queue.create()
    queue.agent(max_concurrent=1)
    assert queue.explain(job) == "waits: agent a runs 1 of at most 1 jobs"
    queue.run(
        "insert into persona.gates (provider, state, reason) values ('acme', 'closed', 'quota')"
    )
    assert queue.explain(job) == (
        "waits: provider acme is closed until somebody opens it (persona gate open acme): quota")  # fmt: skip
    queue.call("set_agent_active", name="a", active=False)
    assert "agent a is disabled" in queue.explain(job)


def test_explain_a_delay_with_its_reason(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "rate_limited", error="429")

    assert queue.explain(run).endswith(": rate limited: 429")


def test_explain_a_queue_that_was_damaged_by_hand_and_repair_it(queue, runner):
    job, other = queue.create(lock_key="k"), queue.create()
    queue.run("delete from persona.job_queue")
    assert "without an entry in the queue" in queue.explain(job)
    assert queue.claim(runner, 5) == []

    assert queue.one("rebuild_queue")["rebuild_queue"] == 2

    assert [r["id"] for r in queue.claim(runner, 5)] == [job["id"], other["id"]]


# -- listings ------------------------------------------------------------------------------------------


def everything(queue, runner):
    queue.agent("b", max_concurrent=9)
    need = queue.create(run_at=FAR)
    made = {
        "pending": need,
        "blocked": queue.create(depends_on=[need["id"]]),
        "held": queue.act("hold_job", queue.create(agent="b")),
        "cancelled": queue.act("cancel_job", queue.create()),
        "completed": queue.start(runner, job_type="x"),
        "failed": queue.start(runner, max_attempts=1),
        "running": queue.start(runner, agent="b"),
        "hung": queue.start(runner),
    }
    queue.report(runner, made["completed"])
    queue.report(runner, made["failed"], "failed")
    queue.expire(made["hung"])
    return made


def test_listing_by_each_status(queue, runner):
    made = everything(queue, runner)

    for status, job in made.items():
        ids = {row["id"] for row in queue.call("list_jobs", status=status)}
        assert ids == ({job["id"]} if status != "running" else {job["id"], made["hung"]["id"]})
    assert len(queue.call("list_jobs")) == len(made)
    with refused("PJ422", "status"):
        queue.call("list_jobs", status="waiting")


def test_listing_by_agent_and_type_in_pages(queue, runner):
    made = everything(queue, runner)
    newest_first = [row["id"] for row in queue.call("list_jobs")]

    assert newest_first == sorted((j["id"] for j in made.values()), reverse=True)
    by_agent = {row["id"] for row in queue.call("list_jobs", agent="b")}
    assert by_agent == {made["held"]["id"], made["running"]["id"]}
    [only] = queue.call("list_jobs", job_type="x")
    assert only["id"] == made["completed"]["id"]
    for status in made:
        agent = made[status]["agent"]
        assert len(queue.call("list_jobs", status=status, agent=agent)) >= 1
        assert queue.call("list_jobs", status=status, agent="researcher") == []
    pages, before = [], None
    while page := queue.call("list_jobs", max_rows=3, before=before):
        pages += [row["id"] for row in page]
        before = page[-1]["id"]
    assert pages == newest_first


def test_the_summary_counts_every_job_once(queue, runner):
    everything(queue, runner)
    summary = queue.one("job_summary")

    expected = dict.fromkeys(
        ["pending", "completed", "failed", "cancelled", "blocked", "held", "hung"], 1
    )
    assert {name: summary[name] for name in expected} == expected
    assert (summary["running"], summary["unseen_alerts"]) == (2, 1)
    by_status = queue.rows("select status, count(*) as n from persona.jobs group by 1")
    assert all(summary[row["status"]] == row["n"] for row in by_status)


def test_the_dashboard_says_what_a_job_waits_for(queue, runner):
    made = everything(queue, runner)
    queue.create(lock_key="k")
    queue.claim(runner)
    parked = queue.create(lock_key="k")
    queue.claim(runner)
    shown = {row["id"]: row for row in queue.rows("select * from persona.job_dashboard")}

    assert shown[made["blocked"]["id"]]["waiting_for"] == "other jobs"
    assert shown[made["held"]["id"]]["waiting_for"] == "held by hand"
    assert shown[made["pending"]["id"]]["waiting_for"].startswith("until 2100")
    assert shown[parked["id"]]["waiting_for"] == "lock key k"
    assert shown[made["running"]["id"]]["waiting_for"] is None
    assert [shown[made[s]["id"]]["hung"] for s in ("running", "hung", "completed")] == [
        False, True, False]  # fmt: skip
    assert shown[made["running"]["id"]]["runner_name"] == "r"


@pytest.mark.parametrize(
    ("payload", "preview"),
    [({"question": "a\n b  c"}, "a b c"), ({"prompt": "x" * 200}, "x" * 80), ({}, ""),
     ({"argv": ["ls", "-l"]}, "ls -l"), ({"other": 1}, '{"other": 1}'), ({"argv": 3}, '{"argv": 3}'),
     ({"script": "echo"}, "echo")],
)  # fmt: skip
def test_the_task_in_a_line(queue, payload, preview):
    queue.create(payload=payload)

    assert queue.value("select task_preview from persona.job_dashboard") == preview


def test_statistics_and_throughput(queue, runner):
    everything(queue, runner)
    stats = {row["job_type"]: row for row in queue.rows("select * from persona.job_statistics")}
    assert (stats["x"]["total"], stats["x"]["completed"], stats["x"]["success_rate"]) == (1, 1, 1)
    assert (stats["t"]["total"], stats["t"]["failed"], stats["t"]["success_rate"]) == (7, 1, 0)
    assert stats["x"]["mean_seconds"] >= 0

    queue.call("recover_hung_jobs")
    total = queue.row("select sum(created) as c, sum(completed) as d, sum(failed) as f, sum(hung) as h"
                      " from persona.throughput_by_hour")  # fmt: skip
    assert tuple(total.values()) == (8, 1, 1, 1)


def test_the_load_of_agents_and_runners(queue, runner):
    everything(queue, runner)
    load = {row["agent"]: row for row in queue.call("list_agents")}

    assert (load["a"]["pending"], load["a"]["running"], load["a"]["completed_24h"]) == (1, 1, 1)
    assert (load["a"]["failed_24h"], load["a"]["program"]) == (1, "true")
    assert (load["b"]["running"], load["b"]["max_concurrent"]) == (1, 9)
    shown = queue.row("select status, running from persona.runner_dashboard")
    assert shown == {"status": "busy", "running": 2}
    queue.one("drain_runner", ref=str(runner))
    assert queue.value("select status from persona.runner_dashboard") == "draining"
    queue.run("update persona.runners set last_seen_at = now() - interval '6 min'")
    assert queue.value("select status from persona.runner_dashboard") == "lost"


def test_the_health_of_the_queue(queue):
    queue.create()
    row = queue.row("select * from persona.queue_health")

    assert row["pending"] == 1
    assert 0 <= row["oldest_pending_seconds"] < 60
    assert 0 <= row["notification_queue_usage"] < 1


def test_versions_and_agents_can_be_asked_for(queue):
    assert queue.one("schema_version")["schema_version"] >= 8
    assert queue.one("protocol_versions") == {"min_protocol": 1, "max_protocol": 2}
    assert queue.one("get_agent", name="a")["argv"] == ["true"]
    with refused("PJ404", "no agent"):
        queue.one("get_agent", name="nobody")
