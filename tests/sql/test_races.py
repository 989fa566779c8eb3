"""Two sessions at once.  The second is known to wait, or to have passed, before the first goes on."""

# ruff: noqa: PLR0917  # the fixtures of a test are its arguments
from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest
from sqltest import FINISHED, refused


class Start:
    """A call in another thread that has been started."""

    future: Future

    def result(self):
        return self.future.result(timeout=10)


@pytest.fixture
def first(another):
    return another("first")


@pytest.fixture
def second(another):
    return another("second")


@pytest.fixture
def while_open(first, wait_until_blocked):
    """Run something in a second session that must wait for what the first did.

    The first session's transaction is open in the block; the second is known to wait before it
    ends.  The answer is in .result() afterwards.
    """

    @contextmanager
    def run(waiting, name="second", *, rollback=False):
        with ThreadPoolExecutor(1) as pool:
            with first.conn.transaction(force_rollback=rollback):
                yield (start := Start())
                start.future = pool.submit(waiting)
                wait_until_blocked(name)
            start.future.exception(timeout=10)

    return run


# -- two claims --------------------------------------------------------------------------------------


def test_p2_two_claims_get_different_jobs_and_none_waits(queue, runner, first, second):
    jobs = [queue.create() for _ in range(2)]
    other = queue.runner("other")

    with first.conn.transaction():
        [one] = first.claim(runner)
        [two] = second.claim(other, 2)

    assert [one["id"], two["id"]] == [j["id"] for j in jobs]


def test_a_claim_that_is_rolled_back_leaves_the_job(queue, runner, first, second):
    job = queue.create()
    with first.conn.transaction(force_rollback=True):
        first.claim(runner)
        assert second.claim(queue.runner("other")) == []

    assert [r["id"] for r in second.claim(runner)] == [job["id"]]


def test_a_limit_holds_with_two_claimers(queue, runner, first, second):
    queue.agent(max_concurrent=2)
    for _ in range(5):
        queue.create()
    other = queue.runner("other")

    with first.conn.transaction():
        assert len(first.claim(runner)) == 1
        # The agent's row is locked: left out, not waited for.
        assert second.claim(other, 5) == []
        assert second.row("select claimable from persona.idle_state(%s)", other)["claimable"]
    assert len(second.claim(other, 5)) == 1
    assert not second.row("select claimable from persona.idle_state(%s)", other)["claimable"]


def test_a_lock_key_holds_with_two_claimers(queue, runner, first, second):
    for _ in range(2):
        queue.create(lock_key="k")

    with first.conn.transaction():
        assert len(first.claim(runner)) == 1
        assert second.claim(queue.runner("other"), 5) == []
    assert second.claim(runner, 5) == []


# -- claim and cancel --------------------------------------------------------------------------------


def test_a_cancel_that_comes_after_a_claim_asks_the_runner(
    queue, runner, first, second, while_open
):
    job = queue.create()

    with while_open(partial(second.act, "cancel_job", job)) as cancelling:
        [run] = first.claim(runner)

    assert cancelling.result()["status"] == "running"
    assert queue.beat(runner, run) == ["cancel"]


def test_a_claim_does_not_wait_for_a_cancel(queue, runner, first, second):
    job = queue.create()
    with first.conn.transaction():
        first.act("cancel_job", job)
        assert second.claim(runner) == []

    assert second.claim(runner) == []
    assert queue.status(job) == "cancelled"


def test_an_update_that_waits_for_a_claim_is_a_conflict(queue, runner, first, second, while_open):
    job = queue.create()
    update = partial(second.one, "update_job", ref=str(job["id"]), changes={"priority": 1},
                     expected_updated_at=job["updated_at"])  # fmt: skip

    with while_open(update) as updating:
        first.claim(runner)

    with refused("PJ409"):
        updating.result()


# -- the end of an execution -------------------------------------------------------------------------


def test_p3_a_report_before_the_recovery_wins(queue, runner, first, second):
    run = queue.start(runner)
    queue.expire(run)

    with first.conn.transaction():
        first.report(runner, run)
        assert second.call("recover_hung_jobs") == []

    assert queue.status(run) == "completed"
    assert queue.call("recover_hung_jobs") == []
    assert [a["outcome"] for a in queue.attempts(run)] == ["completed"]


def test_p3_a_recovery_before_the_report_wins(queue, runner, first, second, while_open):
    run = queue.start(runner)
    queue.expire(run)

    with while_open(partial(second.report, runner, run)) as reporting:
        assert len(first.call("recover_hung_jobs")) == 1

    assert reporting.result()["status"] == "lost"
    assert queue.status(run) == "pending"
    assert queue.attempts(run)[0]["stale_result"]["outcome"] == "completed"


def test_a_heartbeat_before_the_recovery_wins(queue, runner, first, second):
    run = queue.start(runner)
    queue.expire(run)

    with first.conn.transaction():
        assert first.beat(runner, run) == ["keep"]
        assert second.call("recover_hung_jobs") == []

    assert queue.call("recover_hung_jobs") == []
    assert queue.report(runner, run)["status"] == "ok"


def test_a_lease_that_was_renewed_since_the_recovery_looked_is_left(queue, runner):
    run = queue.start(runner)
    orphan = "select * from persona._orphan(%s, %s, 'why', %s)"

    assert queue.rows(orphan, run["id"], run["lease"], False) == []
    assert queue.rows(orphan, run["id"], run["lease"] - 1, True) == []
    assert queue.beat(runner, run) == ["keep"]
    assert len(queue.rows(orphan, run["id"], run["lease"], True)) == 1


def test_a_recovery_before_the_heartbeat_wins(queue, runner, first, second, while_open):
    run, other = queue.start(runner), queue.start(runner)
    queue.expire(run)

    with while_open(partial(second.beat, runner, run, other)) as beating:
        assert len(first.call("recover_hung_jobs")) == 1

    assert beating.result() == ["lost", "keep"]


def test_the_same_report_twice_at_once(queue, runner, first, second, while_open):
    run = queue.start(runner)

    with while_open(partial(second.report, runner, run)) as repeating:
        assert first.report(runner, run)["status"] == "ok"

    assert repeating.result()["status"] == "repeated"
    assert len(queue.attempts(run)) == 1


def test_a_cancel_that_waits_for_the_report_comes_too_late(
    queue, runner, first, second, while_open
):
    run = queue.start(runner)

    with while_open(partial(second.act, "cancel_job", run)) as cancelling:
        first.report(runner, run)

    with refused("PJ423", "has ended .completed."):
        cancelling.result()


# -- creating ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same", [{"dedupe_key": "k"}, {"id": "01900000-0000-7000-8000-0000000000aa"}]
)
@pytest.mark.parametrize("many", [False, True])
def test_p1_two_creates_of_one_job_make_one(queue, first, second, while_open, same, many):
    def create():
        if many:
            job = {"job_type": "t", "agent": "a"} | same
            return second.rows("select create_jobs as id from persona.create_jobs(%s)", [job])[0]
        return second.create(**same)

    with while_open(create) as creating:
        made = first.create(**same)

    assert creating.result()["id"] == made["id"]
    assert queue.value("select count(*) from persona.jobs") == 1


def test_p1_a_create_whose_twin_is_rolled_back_makes_the_job(queue, first, second, while_open):
    with while_open(partial(second.create, dedupe_key="k"), rollback=True) as creating:
        first.create(dedupe_key="k")

    assert queue.job(creating.result())["status"] == "pending"


def test_p1_the_live_job_of_a_key_may_end_while_its_twin_is_created(
    queue, runner, first, second, while_open
):
    run = queue.start(runner, dedupe_key="k")
    queue.act("hold_job", run)
    queue.report(runner, run, "held")

    with while_open(partial(second.create, dedupe_key="k")) as creating:
        first.act("cancel_job", run)

    assert creating.result()["id"] != run["id"]
    assert queue.status(creating.result()) == "pending"


def test_p12_two_edits_at_once(queue, first, second, while_open):
    job = queue.create()
    update = {"ref": str(job["id"]), "expected_updated_at": job["updated_at"]}

    with while_open(partial(second.one, "update_job", **update, changes={"priority": 2})) as late:
        first.one("update_job", **update, changes={"priority": 1})

    with refused("PJ409"):
        late.result()
    assert queue.job(job)["priority"] == 1


# -- dependencies ------------------------------------------------------------------------------------


def test_two_needs_that_end_together_unblock_the_job(queue, runner, first, second, while_open):
    needs = [queue.start(runner) for _ in range(2)]
    job = queue.create(depends_on=[n["id"] for n in needs])

    with while_open(partial(second.report, runner, needs[1])) as ending:
        first.report(runner, needs[0])

    assert ending.result()["status"] == "ok"
    assert queue.status(job) == "pending"


def test_one_need_fails_while_the_other_completes(queue, runner, first, second, while_open):
    needs = [queue.start(runner, max_attempts=1) for _ in range(2)]
    job = queue.create(depends_on=[n["id"] for n in needs])

    with while_open(partial(second.report, runner, needs[1])) as ending:
        first.report(runner, needs[0], "failed")

    ending.result()
    assert queue.status(job) == "failed"


def test_a_need_that_ends_while_the_waiting_job_is_created(
    queue, runner, first, second, while_open
):
    run = queue.start(runner)
    made = []

    with while_open(partial(second.report, runner, run)) as ending:
        made.append(first.create(depends_on=[run["id"]]))

    assert made[0]["status"] == "blocked"
    assert ending.result()["status"] == "ok"
    assert queue.status(made[0]) == "pending"


def test_a_waiting_job_that_is_created_while_its_need_ends(
    queue, runner, first, second, while_open
):
    run = queue.start(runner)

    with while_open(partial(second.create, depends_on=[run["id"]])) as creating:
        first.report(runner, run)

    assert creating.result()["status"] == "pending"


# -- lock keys ---------------------------------------------------------------------------------------


def test_a_claim_that_parks_and_the_completion_that_frees(queue, runner, first, second, while_open):
    run = queue.start(runner, lock_key="k")
    job = queue.create(lock_key="k")

    with while_open(partial(second.report, runner, run)) as ending:
        assert first.claim(runner) == []

    assert ending.result()["status"] == "ok"
    assert [r["id"] for r in queue.claim(runner)] == [job["id"]]


def test_a_completion_that_frees_and_the_claim_that_looks(queue, runner, first, second):
    run = queue.start(runner, lock_key="k")
    job = queue.create(lock_key="k")
    other = queue.runner("other")

    with first.conn.transaction():
        first.report(runner, run)
        assert second.claim(other) == []
        assert second.row("select claimable from persona.idle_state(%s)", other)["claimable"]

    assert [r["id"] for r in second.claim(other)] == [job["id"]]


def key_lock(queue, *keys):
    for key in keys:
        queue.rows("select pg_advisory_xact_lock(hashtext('persona.lock_key'), hashtext(%s))", key)


def at_once(gate, keys, wait_until_blocked, **calls):
    """Let both calls wait for the keys, in the order given, and then go on together."""
    with ThreadPoolExecutor(2) as pool:
        with gate.conn.transaction():
            key_lock(gate, *keys)
            running = []
            for name, call in calls.items():
                running.append(pool.submit(call))
                wait_until_blocked(name)
        return [future.result(timeout=10) for future in running]


@pytest.mark.parametrize(
    ("function", "status"), [("cancel_job", "cancelled"), ("hold_job", "held")]
)
def test_a_completion_and_the_stop_of_the_first_parked_job_do_not_deadlock(
    queue, runner, first, second, another, wait_until_blocked, function, status
):
    run = queue.start(runner, lock_key="k")
    head, next_one = queue.create(lock_key="k"), queue.create(lock_key="k")
    assert queue.claim(runner, 5) == []

    ended, stopped = at_once(
        another("gate"), ["k"], wait_until_blocked,
        first=partial(first.report, runner, run), second=partial(second.act, function, head),
    )  # fmt: skip

    assert (ended["status"], stopped["status"]) == ("ok", status)
    assert [r["id"] for r in queue.claim(runner, 5)] == [next_one["id"]]


@pytest.mark.parametrize("function", ["cancel_pending_jobs", "cancel_job"])
def test_many_keys_are_locked_in_one_order(
    queue, runner, first, second, another, wait_until_blocked, function
):
    low, high = (r["k"] for r in queue.rows(
        "select k from unnest(array['x', 'y']) as k order by hashtext(k)"))  # fmt: skip
    runs = [queue.start(runner, lock_key=key) for key in (low, high)]
    # Both would reach the higher one first: a tree is cancelled from below.
    keys = (low, high) if function == "cancel_job" else (high, low)
    top = queue.create(lock_key=keys[0])
    queue.create(lock_key=keys[1], parent_job_id=top["id"])
    if function == "cancel_job":
        cancel = partial(second.act, function, top)
    else:
        cancel = partial(second.one, function)
    report = partial(first.call, "complete_jobs", runner_id=runner, items=[
        {"job_id": str(r["id"]), "lease": r["lease"], "outcome": "completed"} for r in runs])  # fmt: skip

    ended, _ = at_once(another("gate"), [low], wait_until_blocked, first=report, second=cancel)

    assert [e["status"] for e in ended] == ["ok", "ok"]
    assert queue.value("select count(*) from persona.job_queue") == 0


# -- wake-ups ----------------------------------------------------------------------------------------


def horizon(queue, runner):
    return queue.row("select * from persona.idle_horizon(%s)", runner)


def is_settled(queue, mark, *, holders=True):
    held = mark["holders"] if holders else None
    return queue.value("select persona.is_settled(%s, %s::text[])", mark["horizon"], held)


def test_p7_a_creator_that_could_not_see_the_idle_mark_is_waited_for(
    queue, runner, first, second, eventually
):
    """The creator looks for idle runners, finds none and notifies nobody; then the runner falls
    idle; then the creator commits.  The runner must not sleep before it has seen that job."""
    second.listen()
    with first.conn.transaction():
        job = first.create()
        assert second.claim(runner) == []
        mark = horizon(second, runner)
        assert mark["holders"]
        assert not is_settled(second, mark)
        assert not is_settled(second, mark, holders=False)

    assert second.heard() == []
    assert is_settled(second, mark)
    # By the horizon alone it may take as long as a stranger's transaction in another database: of
    # the tests beside this one, say, of which each makes a database of its own.
    eventually(lambda: is_settled(second, mark, holders=False), 60)
    assert [r["id"] for r in second.claim(runner)] == [job["id"]]


def test_p7_an_agent_that_is_being_enabled_is_waited_for(queue, runner, first, second):
    with first.conn.transaction():
        first.call("set_agent_active", name="a", active=True)
        assert second.claim(runner) == []
        mark = horizon(second, runner)
        assert mark["holders"]
        assert not is_settled(second, mark)


def test_p7_a_creator_that_sees_the_idle_mark_notifies(queue, runner, first, second):
    second.listen()
    assert second.claim(runner) == []
    mark = horizon(second, runner)
    assert is_settled(second, mark)

    first.create()

    assert second.heard() == ["a"]


def test_p7_nobody_is_notified_while_nobody_is_idle(queue, runner, first, second):
    second.listen()
    for _ in range(3):
        queue.create()
    assert len(second.claim(runner, 3)) == 3

    first.create()

    assert second.heard() == []


def test_p7_a_runner_that_stays_awake_is_not_marked(queue, runner, first, second):
    def marks():
        return queue.value("select count(*) from persona.idle_runners")

    second.listen()
    for stays_awake, marked in ((True, 0), (False, 1), (False, 1), (True, 0), (None, 1)):
        assert second.call("claim_jobs", runner_id=runner, stays_awake=stays_awake) == []
        assert marks() == marked
    second.call("claim_jobs", runner_id=runner, stays_awake=True)
    job = first.create()
    assert second.heard() == []
    found = second.call("claim_jobs", runner_id=runner, max_jobs=2, stays_awake=True)

    assert [r["id"] for r in found] == [job["id"]]
    assert marks() == 0


def test_p7_only_a_runner_that_serves_the_agent_counts(queue, first, second):
    second.listen()
    queue.agent("b")
    runner = queue.runner(agents=["b"])
    assert queue.claim(runner) == []

    first.create()
    assert second.heard() == []
    first.create(agent="b")
    assert second.heard() == ["b"]


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_p7_in_any_other_isolation_a_create_always_notifies(queue, runner, first, second, level):
    second.listen()
    first.conn.isolation_level = psycopg.IsolationLevel[level]
    with first.conn.transaction():
        first.rows("select count(*) from persona.idle_runners")
        assert second.claim(runner) == []
        first.create()

    assert second.heard() == ["a"]


def test_p7_a_strangers_long_transaction_holds_nobody_up(queue, runner, first, second):
    with first.conn.transaction():
        first.rows("select pg_current_xact_id()")
        assert second.claim(runner) == []
        mark = horizon(second, runner)

        assert mark["holders"] == []
        assert not is_settled(second, mark, holders=False)
        assert is_settled(second, mark)


def test_p7_a_row_that_is_locked_is_not_absent(queue, runner, first, second):
    job = queue.create()
    with first.conn.transaction():
        first.rows("select from persona.jobs where id = %s for update", job["id"])
        assert second.claim(runner) == []
        assert second.row("select claimable from persona.idle_state(%s)", runner)["claimable"]


def test_p7_a_child_that_is_being_created_hides_no_parent(queue, runner, first, second):
    job = queue.create()
    with first.conn.transaction():
        first.create(parent_job_id=job["id"])
        assert [r["id"] for r in second.claim(runner)] == [job["id"]]


def test_the_next_due_time_is_known(queue, runner):
    def due():
        return queue.row("select * from persona.idle_state(%s)", runner)["due_in_seconds"]

    assert due() is None
    queue.run("insert into persona.gates (provider, state, reopens_at)"
              " values ('p', 'closed', now() + interval '5000 s')")  # fmt: skip
    assert 4990 < due() <= 5000
    queue.create(run_at=queue.value("select now() + interval '1000 s'"))
    assert 990 < due() <= 1000
    queue.start(runner)
    assert 290 < due() <= 300


def test_a_finished_status_stays_under_two_writers(queue, runner, first, second, while_open):
    run = queue.start(runner, max_attempts=1)

    with while_open(partial(second.report, runner, run, "failed")) as late:
        first.report(runner, run)

    assert late.result()["status"] == "lost"
    assert queue.status(run) == "completed"
    assert queue.status(run) in FINISHED
