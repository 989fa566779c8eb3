"""What is drawn: searching jobs page by page, throughput, waits, durations, executions, failures, costs."""

from __future__ import annotations

import pytest
from sqltest import refused


def pages(queue, **options):
    """Follow the pages to the end; returns what each had, and how often a page said 'go on'."""
    found, looked_in_vain, after = [], 0, None
    while True:
        rows = queue.rows(
            "select s.place, (s.job).id from persona.search_jobs(status => %s, agent => %s,"
            " search => %s, sort => %s, after => %s, max_rows => %s, max_scanned => %s) as s",
            *(options.get(name) for name in ("status", "agent", "search")),
            options.get("sort", "newest"),
            after,
            options.get("max_rows", 3),
            options.get("max_scanned", 20000),
        )
        jobs = [row["id"] for row in rows if row["id"] is not None]
        looked_in_vain += len(rows) > len(jobs)
        found += jobs
        if not rows:
            return found, looked_in_vain
        after = rows[-1]["place"]


def shift(queue, job, by):
    """Let a job have been created that much earlier."""
    queue.run(
        "update persona.jobs set created_at = created_at - %s::interval,"
        " run_at = run_at - %s::interval where id = %s",
        by, by, job["id"],
    )  # fmt: skip


@pytest.fixture
def ten(queue):
    queue.agent()
    return [queue.create(payload={"prompt": f"number {n}"})["id"] for n in range(10)]


@pytest.mark.parametrize("status", [None, "pending"])
def test_pages_of_jobs_have_each_job_once_newest_or_oldest_first(queue, ten, status):
    # Ids are random within a millisecond; what waits has a sequence.
    expected = sorted(ten) if status is None else ten
    assert pages(queue, status=status) == (expected[::-1], 0)
    assert pages(queue, status=status, sort="oldest") == (expected, 0)


def test_a_page_is_found_by_the_text_of_the_payload(queue, ten):
    assert pages(queue, search="NUMBER 7") == ([ten[7]], 0)
    assert pages(queue, search="100%") == ([], 0)


def test_a_search_looks_at_so_many_jobs_and_says_where_to_go_on(queue, ten):
    found, looked_in_vain = pages(queue, search="number 1", max_scanned=2)
    assert found == [ten[1]]
    assert looked_in_vain >= 4


@pytest.mark.parametrize("sort", ["priority", "duration", "cost", "ended"])
def test_pages_in_the_order_of_a_value_have_each_job_once(queue, ten, sort):
    queue.run("update persona.jobs set priority = seq % 3, cost_usd = (seq % 4) * 0.25")
    found, _ = pages(queue, sort=sort)
    assert sorted(found) == sorted(ten)
    if sort in ("priority", "cost"):
        column = {"priority": "priority", "cost": "cost_usd"}[sort]
        values = {
            r["id"]: r["v"] for r in queue.rows(f"select id, {column} as v from persona.jobs")
        }
        assert [values[one] for one in found] == sorted(values.values(), reverse=True)


def test_each_status_is_found(queue, ten, runner):
    [claimed] = queue.claim(runner)
    queue.run("select persona.hold_job(%s)", str(ten[5]))
    queue.run("select persona.cancel_job(%s)", str(ten[6]))
    assert pages(queue, status="running") == ([claimed["id"]], 0)
    assert pages(queue, status="hung") == ([], 0)
    queue.run("update persona.job_leases set expires_at = now() - interval '1 s'")
    assert pages(queue, status="hung") == ([claimed["id"]], 0)
    assert pages(queue, status="held") == ([ten[5]], 0)
    assert pages(queue, status="cancelled", sort="oldest") == ([ten[6]], 0)
    assert pages(queue, status="completed") == ([], 0)


@pytest.mark.parametrize(
    "arguments",
    [
        "status => 'lost'",
        "sort => 'random'",
        "after => 'x'",
        "sort => 'cost', after => '00000000-0000-0000-0000-000000000000'",
        "max_rows => 0",
        "max_scanned => 0",
    ],
)
def test_what_makes_no_page_is_refused(queue, arguments):
    with refused("PJ422"):
        queue.rows(f"select * from persona.search_jobs({arguments})")


def test_what_came_and_ended_is_counted_in_its_bucket(queue, runner):
    queue.agent()
    run, other = queue.start(runner), queue.start(runner, max_attempts=1)
    queue.report(runner, run)
    queue.report(runner, other, "failed", error="no", failure_kind="crashed")
    waiting = queue.create()

    found = queue.call("get_throughput", span="1 hour", buckets=60)
    assert len(found) == 60
    assert {
        name: sum(row[name] for row in found) for name in ("created", "completed", "failed")
    } == {"created": 3, "completed": 1, "failed": 1}
    assert found[-1]["pending"] == 1
    shift(queue, waiting, "2 hours")
    assert (
        sum(row["created"] for row in queue.call("get_throughput", span="1 hour", buckets=4)) == 2
    )

    assert sum(row["started"] for row in queue.call("get_waits", span="1 hour", buckets=60)) == 2
    [kind] = queue.call("get_failures")
    assert (kind["failure_kind"], kind["executions"], kind["last_job_id"]) == (
        "crashed",
        1,
        other["id"],
    )
    [took] = queue.call("get_durations")
    assert (took["job_type"], took["executions"]) == ("t", 2)
    assert took["p50_seconds"] <= took["p99_seconds"] <= took["max_seconds"]


def test_a_wait_ends_with_the_start(queue, runner):
    queue.agent()
    shift(queue, queue.create(), "10 minutes")
    queue.claim(runner)
    [waited] = [r for r in queue.call("get_waits", span="1 hour", buckets=60) if r["started"]]
    assert 599 < waited["p50_seconds"] == waited["max_seconds"] < 610


def test_executions_are_those_that_run_and_those_that_ended(queue, runner):
    queue.agent()
    run, going = queue.start(runner), queue.start(runner)
    queue.report(runner, run)
    found = {row["job_id"]: row for row in queue.call("get_executions")}
    assert found[run["id"]]["outcome"] == "completed"
    assert (found[going["id"]]["outcome"], found[going["id"]]["ended_at"]) == (None, None)
    assert found[run["id"]]["runner_name"] == "r"


def test_costs_are_summed_by_day_agent_type_and_model(queue, runner):
    queue.agent()
    for _ in range(2):
        queue.report(runner, queue.start(runner), cost_usd=0.25, model="m")
    [cost] = queue.call("get_costs", days=1)
    assert (cost["agent"], cost["job_type"], cost["model"]) == ("a", "t", "m")
    assert (float(cost["cost_usd"]), cost["executions"]) == (0.5, 2)


@pytest.mark.parametrize(
    "call",
    [
        "get_throughput(span => '0')",
        "get_throughput(buckets => 0)",
        "get_waits(span => null)",
        "get_waits(buckets => 1001)",
        "get_durations(span => '400 days')",
        "get_executions(max_rows => 0)",
        "get_failures(span => '-1 hour')",
        "get_costs(days => 0)",
    ],
)
def test_a_look_back_over_nothing_or_years_is_refused(queue, call):
    with refused("PJ422"):
        queue.rows(f"select * from persona.{call}")
