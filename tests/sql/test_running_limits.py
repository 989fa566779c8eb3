"""Limits on types, keys and in total, and one live use of a conversation: exact, whoever claims."""

from __future__ import annotations

import random
import threading
import time

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqltest import Queue, refused

NAMES = ["total", "type:t", "key:k"]


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_holds_over_all_runners_and_says_so(queue, runner, name):
    other = queue.runner("other")
    queue.one("set_limit", name=name, max_running=3)
    jobs = [queue.create(limit_key="k") for _ in range(10)]

    runs = queue.claim(runner, 2) + queue.claim(other, 5)

    assert [r["id"] for r in runs] == [j["id"] for j in jobs[:3]]
    assert queue.claim(runner, 5) == queue.claim(other, 5) == []
    assert queue.explain(jobs[5]) == f"waits: the limit {name} is reached: 3 may run at once"
    assert not queue.one("idle_state", runner_id=runner)["claimable"]

    queue.report(other, runs[2])
    assert queue.one("idle_state", runner_id=runner)["claimable"]
    assert [r["id"] for r in queue.claim(runner, 5)] == [jobs[3]["id"]]
    assert not queue.one("idle_state", runner_id=runner)["claimable"]


@pytest.mark.parametrize("name", NAMES)
def test_a_freed_place_a_raised_and_a_removed_limit_wake_an_idle_runner(
    queue, runner, another, name
):
    queue.one("set_limit", name=name, max_running=1)
    for _ in range(5):
        queue.create(limit_key="k")
    [run] = queue.claim(runner, 5)
    listener = another("listener")
    listener.listen()

    queue.report(runner, run)
    assert "*" in listener.heard()
    assert len(queue.claim(runner, 5)) == 1
    queue.one("set_limit", name=name, max_running=2)
    assert "*" in listener.heard()
    assert len(queue.claim(runner, 5)) == 1
    queue.one("remove_limit", name=name)
    assert "*" in listener.heard()
    assert len(queue.claim(runner, 5)) == 2


def test_a_full_limit_hides_nothing_that_is_behind_it(queue, runner):
    queue.one("set_limit", name="type:t", max_running=1)
    queue.one("set_limit", name="key:k", max_running=1)
    first = queue.create(priority=9)
    for _ in range(50):
        queue.create(priority=5)
    keyed = [queue.create("u", limit_key="k", priority=3) for _ in range(50)]
    other = queue.create("u")

    ids = [r["id"] for r in queue.claim(runner, 5)]

    assert ids == [first["id"], keyed[0]["id"], other["id"]]
    assert queue.value(
        "select count(*) from persona.job_queue where waits_on = 'limit'") == 99  # fmt: skip


def test_a_job_under_two_limits_needs_room_in_both(queue, runner):
    queue.one("set_limit", name="type:t", max_running=2)
    queue.one("set_limit", name="key:k", max_running=1)
    both = [queue.create(limit_key="k") for _ in range(3)]
    plain = [queue.create() for _ in range(3)]

    runs = queue.claim(runner, 5)
    assert [r["id"] for r in runs] == [both[0]["id"], plain[0]["id"]]

    queue.report(runner, runs[1])
    assert [r["id"] for r in queue.claim(runner, 5)] == [plain[1]["id"]]
    queue.report(runner, runs[0])
    assert [r["id"] for r in queue.claim(runner, 5)] == [both[1]["id"]]


def test_two_claims_at_once_never_share_the_last_place(queue, runner, another):
    queue.one("set_limit", name="type:t", max_running=1)
    for _ in range(3):
        queue.create()
    other = queue.runner("other")
    one, two = another("one"), another("two")

    with one.conn.transaction():
        assert len(one.claim(runner)) == 1
        assert two.claim(other) == []
        assert two.one("idle_state", runner_id=other)["claimable"], "it must not sleep yet"
    assert two.claim(other) == []
    assert not two.one("idle_state", runner_id=other)["claimable"]


@pytest.mark.parametrize(
    ("name", "count"), [("agent:a", 1), ("type:", 1), ("", 1), ("total", -1), ("total", None)]
)
def test_a_limit_that_makes_no_sense_is_refused(queue, name, count):
    with refused("PJ422"):
        queue.one("set_limit", name=name, max_running=count)


def test_a_limit_that_does_not_exist_cannot_be_removed(queue):
    with refused("PJ422", "no limit is set"):
        queue.one("remove_limit", name="total")


def test_one_job_at_a_time_uses_a_conversation(queue, runner):
    jobs = [queue.create() for _ in range(3)]
    queue.run("update persona.jobs set session_id = 's' where id <> %s", jobs[2]["id"])

    first, free = queue.claim(runner, 5)
    assert [first["id"], free["id"]] == [jobs[0]["id"], jobs[2]["id"]]
    assert queue.explain(jobs[1]) == (
        f"waits: job {first['short_id']} is using the same conversation s"
    )
    assert queue.claim(runner, 5) == []

    queue.report(runner, first)
    assert [r["id"] for r in queue.claim(runner, 5)] == [jobs[1]["id"]]


def claim_and_report(connect, number, ends, done):
    """Be a runner until then, one that connects again whenever its backend is gone."""
    chance = random.Random(number)
    mine = runner = None
    while time.monotonic() < ends:
        try:
            if mine is None:
                mine = Queue(connect(f"claimer {number}"))
                runner = runner or mine.runner(f"runner {number}")
                mine.call("reconcile", runner_id=runner, held=Jsonb([]))
            for run in mine.claim(runner, chance.randint(1, 4)):
                mine.report(runner, run)
                done.append(run["id"])
        except psycopg.OperationalError:
            mine = None


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("seconds", "crashes"),
    [
        (4, True),
        pytest.param(60, False, marks=pytest.mark.soak),
        pytest.param(60, True, marks=pytest.mark.soak),
    ],
)
def test_sixteen_claimers_never_pass_a_limit_of_three(
    queue, connect, superuser_dsn, seconds, crashes
):
    """Claim, report, and with crashes now and then a backend that is killed in between."""
    limits = {"agent": "a", "type": "t", "key": "k"}
    queue.agent(max_concurrent=3)
    queue.one("set_limit", name="type:t", max_running=3)
    queue.one("set_limit", name="key:k", max_running=3)
    queue.one("set_limit", name="total", max_running=9)
    for name in ("b", "c"):
        queue.agent(name, max_attempts=3)
    jobs = [
        {"job_type": t, "agent": a, "limit_key": k}
        for t, a, k in (("x", "a", None), ("t", "b", None), ("y", "c", "k")) * 150
    ]
    queue.call("create_jobs", jobs=jobs)
    ends = time.monotonic() + seconds
    done = []
    killed = 0

    most = dict.fromkeys([*limits, "total"], 0)
    threads = [
        threading.Thread(target=claim_and_report, args=(connect, n, ends, done)) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    with psycopg.connect(superuser_dsn, autocommit=True) as killer:
        while time.monotonic() < ends:
            [seen] = queue.rows(
                "select count(*) filter (where agent = 'a') as agent,"
                " count(*) filter (where job_type = 't') as type,"
                " count(*) filter (where limit_key = 'k') as key, count(*) as total"
                " from persona.job_leases"
            )
            most = {name: max(most[name], seen[name]) for name in most}
            if queue.value("select count(*) from persona.job_queue") < 200:
                queue.call("create_jobs", jobs=jobs)
            if crashes:
                killed += killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name like 'claimer %' order by random() limit 1"
                ).rowcount
            time.sleep(0.02)
    for thread in threads:
        thread.join()

    print(f"most seen running: {most}; {len(done)} jobs, {killed} backends killed in {seconds} s")
    assert most["agent"] <= 3
    assert most["type"] <= 3
    assert most["key"] <= 3
    assert most["total"] <= 9
    assert len(done) == len(set(done)) > 20
