"""What has happened, summed up: the sums say what the records say, and spare reading them."""

from __future__ import annotations

import psycopg
import pytest

ENDS = ("created", "completed", "failed", "otherwise")
# What a picture of a week reads: two weeks of sums, what is new, a little around it.
FEW = 1500
# As if so many had ended, that percentiles are taken from the sums.
MANY = "insert into persona.activity values (now() - interval '90 s', 0, 0, 20001, 0, 0)"


@pytest.fixture
def summed(queue):
    """Tick until the past is summed up; where there is none, a tick of the cursor's is enough."""

    def tick():
        queue.run(
            "update persona.activity_cursor set since = now() - interval '9 days'"
            " where not exists (select from persona.job_attempts)"
        )
        for _ in range(50):
            queue.call("tick")
            if queue.value("select since < now() - interval '8 days' from persona.activity_cursor"):
                return
        raise AssertionError("the past is not summed up")

    return tick


def history(queue, number, *, every="1 minute", took="10 seconds"):
    """So many executions that ended, one in each span of time, the last one now."""
    queue.run(
        """
        with job as (
          insert into persona.jobs (id, short_id, job_type, agent, status, created_at, run_at,
            started_at, completed_at, attempt, lease, ended_lease)
          select i.id, right(i.id::text, 8), 't', 'a', 'completed', i.at, i.at, i.at, i.at, 1, 1, 1
          from (
            select persona._new_id() as id, now() - n * %s::interval as at
            from generate_series(%s, 1, -1) as n) as i
          returning id, created_at)
        insert into persona.job_attempts
          (job_id, lease, attempt, is_counted, outcome, started_at, ended_at)
        select j.id, 1, 1, true, 'completed', j.created_at, j.created_at + %s::interval from job as j
        """,
        every, number, took,
    )  # fmt: skip


def drawn(queue, span="7 days", buckets=84):
    return queue.call("get_throughput", span=span, buckets=buckets)


def totals(rows):
    return {name: sum(row[name] for row in rows) for name in ENDS}


def is_summed(queue):
    return queue.value("select persona._is_summed(now() - interval '7 days', '2 hours')")


def test_the_sums_say_what_the_records_say(queue, runner, summed):
    """What was there before the first tick, what came since, and what no tick has seen yet."""
    history(queue, 500, every="20 minutes")
    before = drawn(queue)
    assert not is_summed(queue)
    summed()
    assert is_summed(queue)
    assert [r["completed"] for r in drawn(queue)] == [r["completed"] for r in before]
    assert totals(drawn(queue)) == totals(before)
    for outcome in ("completed", "failed", "given_back"):
        run = queue.start(runner, max_attempts=1)
        queue.report(runner, run, outcome)
        if outcome == "failed":
            queue.call("tick")
    cancelled = queue.create()
    queue.act("cancel_job", cancelled)
    waiting = [queue.create() for _ in range(2)]
    expected = totals(before)
    for name, more in (("created", 6), ("completed", 1), ("failed", 1), ("otherwise", 1)):
        expected[name] += more

    for _ in range(2):
        found = drawn(queue)
        assert totals(found) == expected
        # One was given back and waits, too.
        assert [row["pending"] for row in found[-2:]] == [0, len(waiting) + 1]
        [load] = queue.rows("select * from persona.agent_workload where agent = 'a'")
        [agent] = [one for one in queue.call("list_agents") if one["agent"] == "a"]
        # From the full hour on, in which there were up to three more.
        assert load["completed_24h"] <= agent["completed_24h"] <= load["completed_24h"] + 3
        assert agent | {"completed_24h": 0} == load | {"completed_24h": 0}
        queue.call("tick")


def test_the_depth_of_the_queue_is_as_it_was_also_where_a_person_let_jobs_go_on(
    queue, runner, summed
):
    """Such steps leave no record: the depth is noted at each quarter of an hour."""
    summed()
    blocked = queue.create(depends_on=[queue.create()["id"]])
    queue.call("tick")
    assert queue.status(blocked) == "blocked"
    assert drawn(queue)[-1]["pending"] == 1
    hour_ago = drawn(queue, "1 hour", 4)[-2]["at"]
    queue.run(
        "insert into persona.queue_depths values (%s, 7)"
        " on conflict (at) do update set pending = 7",
        hour_ago,
    )
    assert [row["pending"] for row in drawn(queue, "1 hour", 4)][-3:] == [7, 0, 1]


def test_an_end_that_commits_late_is_summed_once(queue, runner, summed, another):
    summed()
    first, second = queue.start(runner), queue.start(runner)
    late = another("late")
    late.run("begin")
    late.report(runner, first)
    queue.report(runner, second)
    queue.call("tick")
    assert totals(drawn(queue))["completed"] == 1
    late.run("commit")
    for _ in range(2):
        assert totals(drawn(queue))["completed"] == 2
        queue.call("tick")


def test_jobs_are_counted_whoever_makes_and_deletes_them_meanwhile(queue, another):
    """A job that is deleted before, while and after the tick comes by."""

    def total():
        return sum(queue.one("job_summary")[name] for name in ("pending", "completed", "cancelled"))

    other = another("other")
    jobs = [queue.create() for _ in range(6)]
    assert total() == 6
    queue.call("tick")
    jobs += [queue.create() for _ in range(3)]
    other.run("begin")
    other.run("delete from persona.jobs where id = any(%s)", [jobs[0]["id"], jobs[7]["id"]])
    assert total() == 9
    queue.call("tick")
    assert total() == 9
    other.run("commit")
    assert total() == 7
    queue.run("delete from persona.jobs where id = %s", jobs[1]["id"])
    uncommitted = another("late")
    uncommitted.run("begin")
    uncommitted.create()
    queue.create()
    assert total() == 7
    queue.call("tick")
    uncommitted.run("commit")
    assert total() == 8
    for _ in range(2):
        queue.call("tick")
        assert total() == 8
    assert queue.value("select count(*) from persona.job_removals") == 0
    queue.run("truncate persona.jobs, persona.job_queue cascade")
    assert total() == 0


def test_after_a_restore_what_came_along_is_summed_once(queue, runner, summed):
    """Its transactions have numbers that this server has yet to come to."""
    for _ in range(2):
        queue.report(runner, queue.start(runner))
    queue.call("tick")
    queue.run("alter table persona.jobs disable trigger user")
    ahead = "pg_current_xact_id()::text::bigint + 10"
    queue.run(f"update persona.jobs set created_xid = {ahead}")
    queue.run(f"update persona.job_attempts set ended_xid = {ahead}")
    queue.run("alter table persona.jobs enable trigger user")
    queue.run("alter table persona.jobs disable trigger jobs_tenant")
    queue.run("update persona.activity_cursor set counted_xid = 900000000000")
    summed()

    assert totals(drawn(queue))["completed"] == 2
    for n in range(3, 8):
        queue.report(runner, queue.start(runner))
        assert totals(drawn(queue)) == {"created": n, "completed": n, "failed": 0, "otherwise": 0}
        assert queue.one("job_summary")["completed"] == n
        queue.call("tick")
    queue.call("cleanup_old_jobs", days=0)
    assert queue.one("job_summary")["completed"] == 0


def test_of_many_executions_percentiles_are_within_a_tenth(queue, summed):
    history(queue, 2000, every="200 seconds", took="1 minute")
    queue.run(
        "update persona.job_attempts set ended_at = started_at"
        " + make_interval(secs => exp(1 + 5 * abs(hashtext(job_id::text)::bigint) / 2147483648.0))"
    )
    queue.run(
        "update persona.jobs set created_at = started_at"
        " - make_interval(secs => exp(3 * abs(hashtext(id::text)::bigint) / 2147483648.0))"
    )
    span = {"span": "6 days", "buckets": 72}
    [exact], waits = queue.call("get_durations", span="6 days"), queue.call("get_waits", **span)
    summed()
    queue.run(MANY)

    [found], waited = queue.call("get_durations", span="6 days"), queue.call("get_waits", **span)

    assert found["executions"] == pytest.approx(exact["executions"], abs=200)  # the full hour
    for name in ("p50_seconds", "p90_seconds", "p99_seconds", "max_seconds"):
        assert found[name] == pytest.approx(exact[name], rel=0.1), name
    assert found["p50_seconds"] != exact["p50_seconds"]
    assert [w["started"] for w in waited] == [w["started"] for w in waits]
    for one, read in zip(waited, waits, strict=True):
        if read["started"]:
            assert one["max_seconds"] == pytest.approx(read["max_seconds"])
            assert one["p50_seconds"] == pytest.approx(read["p50_seconds"], rel=0.12)


def test_pictures_and_counts_read_as_much_however_long_the_history_is(queue, runner, summed):
    history(queue, 4000, every="5 seconds")
    queue.agent("paid", costs_money=True)
    for _ in range(3):
        queue.report(runner, queue.start(runner, agent="paid"), cost_usd=0.5)
    summed()
    queue.run(MANY)
    queue.run("vacuum analyze persona.jobs, persona.job_attempts, persona.activity_times")

    calls = {
        "throughput": lambda: queue.call("get_throughput", span="7 days", buckets=84),
        "waits": lambda: queue.call("get_waits", span="7 days", buckets=84),
        "durations": lambda: queue.call("get_durations", span="7 days"),
        "summary": lambda: queue.call("job_summary"),
        "agents": lambda: queue.call("list_agents"),
        "costs": lambda: queue.call("get_costs", days=30),
    }
    read = {name: queue.reads(call)[1] for name, call in calls.items()}
    assert {name: number for name, number in read.items() if number >= FEW} == {}


def test_sums_are_nobodys_who_sees_one_business_only(queue, summed, databases, database):
    summed()
    role = f"s_{database}"
    queue.run(f"create role {role} login password 'persona' in role persona_viewer")
    try:
        queue.call("assign_tenant", role_name=role, businesses=["mine"])
        queue.create(business="others")
        queue.create(business="mine")
        queue.call("tick")
        with psycopg.connect(databases.dsn(database, user=role)) as conn:
            tenant = type(queue)(conn)
            assert totals(drawn(tenant))["created"] == 1
            assert tenant.one("job_summary")["pending"] == 1
            assert tenant.rows("select * from persona.activity") == []
    finally:
        queue.run(f"drop role {role}")
