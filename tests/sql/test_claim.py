"""claim_jobs: who gets what, in which order, and what nobody gets."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqltest import refused

FAR = datetime(2100, 1, 1, tzinfo=UTC)


def ago(**delta):
    return datetime.now(UTC) - timedelta(**delta)


def test_priority_then_time_then_arrival(queue, runner):
    old, older = ago(hours=1), ago(hours=2)
    last = queue.create(priority=-1)
    third = queue.create(run_at=old)
    fourth = queue.create(run_at=old)
    second = queue.create(run_at=older)
    first = queue.create(priority=10)

    one_by_one = [queue.claim(runner)[0]["id"] for _ in range(5)]

    assert one_by_one == [j["id"] for j in (first, second, third, fourth, last)]


def test_a_batch_comes_in_the_same_order_over_several_agents(queue, runner):
    queue.agent("b", max_concurrent=2)
    made = [queue.create(agent=agent, priority=p) for agent, p in
            [("a", 1), ("b", 3), ("a", 2), ("b", 2), ("b", 9)]]  # fmt: skip

    runs = queue.claim(runner, 10)

    assert [r["id"] for r in runs] == [made[i]["id"] for i in (4, 1, 2, 0)]


def test_what_a_runner_is_told(queue, runner):
    queue.agent(
        "b", argv=["claude", "-p"], stdin_template="{prompt}", env={"A": "1"}, workdir="/tmp",
        output_format="jsonl", timeout=timedelta(seconds=60), idle_timeout=timedelta(seconds=9),
        kill_grace=timedelta(seconds=3), output_limit=1000, provider="anthropic", model="opus",
        launcher=["nice"], keeps_conversation=True,
    )  # fmt: skip
    queue.create("research", agent="b", payload={"question": "?"}, business="acme", priority=4,
                 timeout=timedelta(seconds=5), source_file="n.md")  # fmt: skip

    [run] = queue.claim(runner)

    assert (run["argv"], run["stdin_template"]) == (["claude", "-p"], "{prompt}")
    assert (run["env"], run["workdir"], run["launcher"]) == ({"A": "1"}, "/tmp", ["nice"])
    assert (run["timeout_seconds"], run["idle_timeout_seconds"]) == (5, 9)
    assert (run["kill_grace_seconds"], run["output_limit"]) == (3, 1000)
    assert (run["provider"], run["model"], run["output_format"]) == ("anthropic", "opus", "jsonl")
    assert (run["status"], run["attempt"], run["max_attempts"]) == ("running", 1, 3)
    assert (run["lease_seconds"], run["business"], run["priority"]) == (300, "acme", 4)
    assert run["prompt_template"] == "{payload.question}{payload.prompt}"
    assert (run["keeps_conversation"], run["source_file"], run["depth"]) == (True, "n.md", 0)


def test_a_claim_marks_the_job_and_grants_the_lease(queue, runner):
    run = queue.start(runner, lock_key="k")
    job = queue.job(run)
    lease = queue.row("select * from persona.job_leases")

    assert (job["status"], job["attempt"], job["lease"]) == ("running", 1, run["lease"])
    assert (job["runner_id"], job["hostname"]) == (runner, "host")
    assert (lease["runner_id"], lease["lease"], lease["lock_key"]) == (runner, run["lease"], "k")
    assert lease["expires_at"] - lease["claimed_at"] == timedelta(seconds=300)
    assert job["started_at"] == lease["claimed_at"] == lease["heartbeat_at"]


def test_a_delayed_job_is_claimed_when_it_is_due(queue, runner):
    job = queue.create(run_at=FAR)
    assert queue.claim(runner) == []

    queue.make_due(job)

    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


def test_time_alone_makes_a_delayed_job_claimable(queue, runner):
    job = queue.create(run_at=FAR)
    # What the clock would do: no write says that the job is due now.
    queue.run("alter table persona.jobs disable trigger jobs_sync_queue")
    queue.make_due(job)
    queue.run("update persona.job_queue set run_at = (select run_at from persona.jobs)")
    assert queue.value("select waits_on from persona.job_queue") == "time"

    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


def test_a_runner_serves_the_agents_it_names(queue):
    queue.agent("b")
    runner = queue.runner(agents=["b"])
    queue.create(priority=9)
    job = queue.create(agent="b")

    assert [run["id"] for run in queue.claim(runner, 5)] == [job["id"]]


def test_a_disabled_agent_waits_until_it_is_enabled(queue, runner, another):
    queue.call("set_agent_active", name="a", active=False)
    job = queue.create()
    assert queue.claim(runner) == []
    listener = another()
    listener.listen()

    queue.call("set_agent_active", name="a", active=True)

    assert listener.heard() == ["a"]
    assert [run["id"] for run in queue.claim(runner)] == [job["id"]]


def test_an_external_agent_is_never_claimed(queue, runner):
    queue.agent("ext", is_external=True)
    job = queue.create(agent="ext")
    queue.create(agent="ext", run_at=FAR)

    assert queue.claim(runner, 5) == []
    assert "waits for its driver" in queue.explain(job)

    queue.agent("ext", is_external=False)
    assert [run["id"] for run in queue.claim(runner, 5)] == [job["id"]]


@pytest.mark.parametrize(
    ("state", "reopens", "claimed"),
    [("closed", None, 0), ("closed", FAR, 0), ("closed", ago(hours=1), 1), ("open", None, 1),
     ("open", FAR, 1)],
)  # fmt: skip
def test_a_closed_gate_of_the_provider(queue, runner, state, reopens, claimed):
    queue.agent("b", provider="anthropic")
    queue.run(
        "insert into persona.gates (provider, state, reopens_at) values ('anthropic', %s, %s)",
        state, reopens,
    )  # fmt: skip
    queue.create(agent="b")
    other = queue.create(priority=-1)

    ids = [run["id"] for run in queue.claim(runner, 5)]

    assert len(ids) == claimed + 1
    assert other["id"] in ids


# -- limits --------------------------------------------------------------------------------------


def test_a_limit_holds_over_all_runners(queue, runner):
    queue.agent(max_concurrent=3)
    second = queue.runner("second")
    for _ in range(10):
        queue.create()

    first = queue.claim(runner, 2)
    rest = queue.claim(second, 5)

    assert (len(first), len(rest)) == (2, 1)
    assert queue.claim(runner, 5) == []
    queue.report(second, rest[0])
    assert len(queue.claim(runner, 5)) == 1


def test_an_agent_at_its_limit_does_not_hold_others_up(queue, runner):
    queue.agent("b", max_concurrent=1)
    for _ in range(3):
        queue.create(agent="b", priority=9)
    job = queue.create()

    runs = queue.claim(runner, 5)

    assert [r["agent"] for r in runs] == ["b", "a"]
    assert runs[1]["id"] == job["id"]


def test_a_freed_slot_and_a_raised_limit_wake_an_idle_runner(queue, runner, another):
    queue.agent(max_concurrent=1)
    for _ in range(3):
        queue.create()
    [run] = queue.claim(runner, 3)
    listener = another()
    listener.listen()

    queue.report(runner, run)
    assert "a" in listener.heard()

    assert len(queue.claim(runner, 3)) == 1
    queue.agent(max_concurrent=2)
    assert "a" in listener.heard()
    assert len(queue.claim(runner, 3)) == 1


# -- lock keys -----------------------------------------------------------------------------------


def waits(queue):
    found = queue.rows("select job_id, waits_on from persona.job_queue order by seq")
    return [row["waits_on"] for row in found]


def test_one_running_job_a_key(queue, runner):
    first, second, other = (queue.create(lock_key=key) for key in ("k", "k", "l"))

    runs = queue.claim(runner, 5)

    assert [r["id"] for r in runs] == [first["id"], other["id"]]
    assert waits(queue) == ["lock"]
    assert queue.claim(runner, 5) == []
    queue.report(runner, runs[0])
    assert waits(queue) == [None]
    assert [r["id"] for r in queue.claim(runner, 5)] == [second["id"]]


def test_many_of_one_key_do_not_hide_what_is_behind_them(queue, runner):
    queue.create(lock_key="k")
    queue.claim(runner)
    for _ in range(15):
        queue.create(lock_key="k", priority=5)
    job = queue.create()

    assert [r["id"] for r in queue.claim(runner)] == [job["id"]]
    assert set(waits(queue)) == {"lock"}


def test_the_parked_go_in_their_order(queue, runner):
    [run] = [queue.start(runner, lock_key="k")]
    low = queue.create(lock_key="k")
    high = queue.create(lock_key="k", priority=3)
    assert queue.claim(runner, 5) == []

    queue.report(runner, run)
    [run] = queue.claim(runner, 5)
    assert run["id"] == high["id"]
    queue.report(runner, run)
    assert [r["id"] for r in queue.claim(runner, 5)] == [low["id"]]


def parked(queue, runner, count=3):
    run = queue.start(runner, lock_key="k")
    jobs = [queue.create(lock_key="k") for _ in range(count)]
    assert queue.claim(runner, 5) == []
    assert waits(queue) == ["lock"] * count
    return run, jobs


@pytest.mark.parametrize("how", ["cancel", "hold", "change", "delay", "cancel pending"])
def test_when_the_unparked_head_goes_away_the_next_one_is_unparked(queue, runner, how):
    run, (head, second, _) = parked(queue, runner)
    queue.report(runner, run)
    assert waits(queue) == [None, "lock", "lock"]

    if how == "cancel":
        queue.act("cancel_job", head)
    elif how == "hold":
        queue.act("hold_job", head)
    elif how == "cancel pending":
        queue.call("cancel_pending_jobs")
        assert queue.claim(runner, 5) == []
        return
    else:
        changes = {"lock_key": "other"} if how == "change" else {"run_at": FAR.isoformat()}
        queue.one("update_job", ref=str(head["id"]), changes=changes,
                  expected_updated_at=queue.job(head)["updated_at"])  # fmt: skip

    assert second["id"] in [r["id"] for r in queue.claim(runner, 5)]


@pytest.mark.parametrize("how", ["recovery", "give back", "cancel", "fail", "retry", "deregister"])
def test_every_way_to_end_frees_the_key(queue, runner, how):
    second = queue.runner("second")
    run, (head, *_) = parked(queue, runner)

    if how == "recovery":
        queue.expire(run)
        queue.call("recover_hung_jobs")
    elif how == "give back":
        queue.call("give_back_job", runner_id=runner, job_id=run["id"], lease=run["lease"])
    elif how == "cancel":
        queue.act("cancel_job", run)
        queue.report(runner, run, "cancelled")
    elif how == "deregister":
        queue.call("deregister_runner", runner_id=runner)
    else:
        queue.run("update persona.jobs set max_attempts = %s", 1 if how == "fail" else 2)
        queue.report(runner, run, "failed")

    [next_run] = queue.claim(second, 5)
    goes_first = run if how in ("recovery", "give back", "deregister") else head
    assert next_run["id"] == goes_first["id"]


def test_a_freed_key_wakes_a_runner_that_serves_the_parked_job(queue, another):
    queue.agent("b")
    one, two = queue.runner("one", agents=["a"]), queue.runner("two", agents=["b"])
    queue.create(lock_key="k")
    [run] = queue.claim(one)
    queue.create(agent="b", lock_key="k")
    assert queue.claim(two) == []
    listener = another()
    listener.listen()

    queue.report(one, run)

    assert "b" in listener.heard()


@pytest.mark.parametrize("why", ["disabled", "full", "served by nobody", "external"])
def test_a_parked_job_does_not_wait_for_one_that_cannot_run(queue, why):
    queue.agent("b")
    runner = queue.runner(agents=["a"] if why == "served by nobody" else None)
    run = queue.start(runner, lock_key="k")
    stuck, job = queue.create(agent="b", lock_key="k", priority=5), queue.create(lock_key="k")
    assert queue.claim(runner, 5) == []
    if why == "disabled":
        queue.call("set_agent_active", name="b", active=False)
    elif why == "full":
        queue.create(agent="b", priority=9)
        assert len(queue.claim(runner)) == 1
        queue.agent("b", max_concurrent=1)
    elif why == "external":
        queue.agent("b", is_external=True)

    queue.report(runner, run)

    assert [r["id"] for r in queue.claim(runner, 5)] == [job["id"]]
    assert queue.status(stuck) == "pending"


# -- leases --------------------------------------------------------------------------------------


def test_lease_numbers_only_grow_and_follow_the_clock(queue, runner):
    run = queue.start(runner)
    seen = [run["lease"]]
    for _ in range(4):
        queue.call("give_back_job", runner_id=runner, job_id=run["id"], lease=run["lease"])
        [run] = queue.claim(runner)
        seen.append(run["lease"])

    assert seen == sorted(set(seen))
    assert abs(seen[0] / 1e6 - queue.value("select extract(epoch from now())::float8")) < 60


def test_a_lease_from_the_future_still_grows(queue, runner):
    job = queue.create()
    future = 10**17
    queue.run("update persona.jobs set lease = %s", future)

    [run] = queue.claim(runner)

    assert (run["id"], run["lease"]) == (job["id"], future + 1)


def test_a_runner_may_have_its_own_length_of_leases(queue):
    runner = queue.runner(lease=timedelta(seconds=7))
    run = queue.start(runner)

    assert run["lease_seconds"] == 7
    row = queue.row("select expires_at - claimed_at as length from persona.job_leases")
    assert row["length"] == timedelta(seconds=7)


# -- who may not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 10_001, None])
def test_so_many_jobs_cannot_be_asked_for(queue, runner, count):
    with refused("PJ422", "max_jobs"):
        queue.claim(runner, count)


def test_a_stranger_gets_nothing(queue):
    with refused("PJ410", "not registered"):
        queue.claim(uuid.uuid4())


def test_a_runner_that_left_gets_nothing(queue, runner):
    queue.call("deregister_runner", runner_id=runner)
    queue.create()

    with refused("PJ410", "not registered"):
        queue.claim(runner)


def test_a_draining_runner_gets_nothing(queue, runner, another):
    listener = another()
    listener.listen("persona_control")
    queue.create()

    queue.one("drain_runner", ref="r")

    assert listener.heard() == [str(runner)]
    assert queue.value("select persona.runner_directive(%s)", runner) == "drain"
    assert queue.claim(runner) == []
    with refused("PJ404", "no live runner"):
        queue.one("drain_runner", ref="nobody")


def test_a_claim_late_in_a_transaction_is_refused(queue, runner):
    queue.create()
    with queue.conn.transaction():
        queue.run("select pg_sleep(1.05)")
        with refused("PJ422", "after its transaction began"), queue.conn.transaction():
            queue.claim(runner)
        with refused("PJ422", "after its transaction began"), queue.conn.transaction():
            queue.call("heartbeats", runner_id=runner, beats=[{}])


def test_claim_job_is_a_claim_of_one(queue, runner):
    queue.create()
    queue.create()

    assert len(queue.call("claim_job", runner_id=runner)) == 1
