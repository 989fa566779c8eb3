"""How much the hot statements read does not depend on what else is there.

Counted, not timed: rows and index entries that a call has touched, dead ones included.  Each
session makes its plans while the tables are empty, as a runner on a new system does, and nobody
analyzes them afterwards.
"""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial

import pytest
from sqltest import Queue

MANY = 2500
# Entries of the queue, a lease, the job, its history, agents, settings: by key, some more than once.
FEW = 120


class Reading(Queue):
    """A session that counts what its calls read."""

    def fill(self, number, **options):
        """Create so many jobs, in one statement."""
        job = {"job_type": "t", "agent": "a"} | options
        self.value("select count(*) from persona.create_jobs(%s)", [job] * number)

    def work(self, runner, batch=1):
        """Claim and report; return what each has read."""
        got, claiming = self.reads(lambda: self.claim(runner, batch))
        if not got:
            return 0, claiming, 0
        items = [{"job_id": str(j["id"]), "lease": j["lease"], "outcome": "completed"} for j in got]
        done, reporting = self.reads(
            lambda: self.call("complete_jobs", runner_id=runner, items=items)
        )
        assert {d["status"] for d in done} == {"ok"}
        return len(got), claiming, reporting

    def drain(self, runner, batch=500):
        while self.work(runner, batch)[0]:
            pass


@pytest.fixture
def session(queue, connect):
    """A session of its own, with its plans made on the empty tables; autovacuum keeps out."""
    for table in ("jobs", "job_queue", "job_leases", "job_attempts"):
        queue.run(f"alter table persona.{table} set (autovacuum_enabled = off)")
    found = Reading(connect("reading"))
    runner = queue.runner("planner")
    for _ in range(2):
        queue.create()
        assert found.work(runner)[0] == 1
    return found


def backlog(session):
    session.fill(MANY)


def history(session):
    session.fill(MANY)
    session.drain(session.runner("drainer"))


def lower_priorities(session):
    session.fill(MANY, priority=-1)


def disabled_agent(session):
    session.agent("off")
    session.fill(MANY, agent="off", priority=9)
    session.call("set_agent_active", name="off", active=False)


def full_agent(session):
    session.agent("full", max_concurrent=1)
    session.fill(MANY, agent="full", priority=9)
    assert session.claim(session.runner("full", agents=["full"]))


def busy_lock_key(session):
    session.fill(MANY, lock_key="k", priority=9)
    runner = session.runner("holder")
    assert len(session.claim(runner)) == 1
    # They are parked in batches, once.
    for _ in range(MANY // 100):
        session.claim(runner, 100)


def busy_limit(session):
    session.call("set_limit", name="key:k", max_running=1)
    session.fill(MANY, limit_key="k", priority=9)
    runner = session.runner("holder")
    assert len(session.claim(runner)) == 1
    session.claim(runner)


def delayed(session):
    session.fill(MANY, run_at="2100-01-01 00:00Z", priority=9)


def external(session):
    session.agent("outside", is_external=True)
    session.fill(MANY, agent="outside", priority=9)


def leases(session):
    session.fill(MANY)
    assert len(session.claim(session.runner("holder"), MANY)) == MANY


@pytest.mark.parametrize(
    "many",
    [backlog, history, lower_priorities, disabled_agent, full_agent, busy_lock_key, busy_limit,
     delayed, external, leases],
)  # fmt: skip
def test_a_claim_and_a_report_read_as_much_as_on_an_empty_queue(queue, session, connect, many):
    many(Reading(connect("filler")))
    queue.run("vacuum persona.job_queue")
    runner = queue.runner()
    for _ in range(3):
        queue.create()

    got, claiming, reporting = session.work(runner)

    assert got == 1
    assert claiming < FEW
    assert reporting < FEW
    # In a batch the same for each.
    got, claiming, reporting = session.work(runner, 2)
    assert got == 2
    assert claiming < FEW * 2
    assert reporting < FEW * 2


def test_what_else_a_runner_says_reads_as_much_as_on_an_empty_queue(
    queue, session, connect, eventually
):
    runner = queue.runner()
    run = session.start(runner)

    def line(seq, lease=run["lease"]):
        one = {"job_id": str(run["id"]), "lease": lease, "seq": seq, "message": "m"}
        return session.value("select persona.append_logs(%s, %s)", runner, [one])

    held = {"job_id": str(run["id"]), "lease": run["lease"]}
    assert session.beat(runner, run) == ["keep"]
    assert (line(1), line(1, lease=1)) == (1, 0)
    filler = Reading(connect("filler"))
    history(filler)
    backlog(filler)

    def idling():
        queue.run("vacuum persona.job_leases")
        call = partial(session.row, "select * from persona.idle_state(%s)", runner)
        return session.reads(call)[1]

    # This one reads the leases of all running jobs, once before a sleep; and those that have ended
    # for as long as somebody has an older snapshot, such as an autovacuum that analyzes a table.
    eventually(lambda: idling() < FEW, 60)
    leases(filler)

    calls = {
        "create": session.create,
        "heartbeat": lambda: session.beat(runner, run),
        "log": lambda: line(2),
        "refused log": lambda: line(3, lease=1),
        "late report": lambda: session.report(runner, run | {"lease": 1}),
        "reconcile": lambda: session.call("reconcile", runner_id=runner, held=[held]),
    }
    read = {name: session.reads(call)[1] for name, call in calls.items()}

    assert {name: number for name, number in read.items() if number >= FEW} == {}


def test_a_cleanup_reads_what_it_deletes_and_not_the_young(queue, session, connect):
    """It is part of every tick."""
    runner, old = queue.runner(), timedelta(days=40)
    run = queue.start(runner, id=queue.old_id(old))
    queue.report(runner, run)
    queue.age(run, old)
    history(Reading(connect("filler")))

    for deleted in (1, 0):
        found, reading = session.reads(lambda: session.one("cleanup_old_jobs")["cleanup_old_jobs"])
        assert found == deleted
        assert reading < FEW


@pytest.fixture
def snapshot(connect):
    """What somebody holds open who has forgotten his transaction."""
    holder = connect("holder", autocommit=False)
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select 1 from persona.settings")
    yield holder
    holder.rollback()


@pytest.mark.usefixtures("snapshot")
def test_behind_a_held_snapshot_claims_walk_over_the_dead_once_in_a_while(queue, session, connect):
    """Entries that were claimed since then stand there dead, in front of what is claimable."""
    history(Reading(connect("filler")))
    session.fill(40)
    runner = queue.runner()

    _, first, _ = session.work(runner)
    assert first > MANY
    # As if the walk had taken longer: how long its result is used depends on that.
    last(session, later=100)
    rest = [session.work(runner) for _ in range(20)]

    assert {got for got, _, _ in rest} == {1}
    assert max(claiming for _, claiming, _ in rest) < FEW
    assert max(reporting for _, _, reporting in rest) < FEW


def place(session):
    return json.loads(session.value("select current_setting('persona.claim_place', true)"))


def last(session, *, later):
    """Let the place that the session has got to be good for longer, or no more."""
    changed = place(session)
    changed["until"] += later
    session.run("select set_config('persona.claim_place', %s, false)", json.dumps(changed))


@pytest.fixture
def placed(queue, session, snapshot, connect):
    """The session has a place in the queue, good for long, behind which everything is dead."""
    history(Reading(connect("filler")))
    session.fill(5)
    assert session.work(queue.runner("placer"))[0] == 1
    last(session, later=100)
    assert len(place(session)["levels"]) == 1
    return session


def ids(jobs):
    return [j["id"] for j in jobs]


def test_a_higher_priority_goes_first_from_a_place_too(queue, runner, placed):
    urgent, less = queue.create(priority=7), queue.create(priority=3)
    lowest = queue.create(priority=-3)

    assert ids(placed.claim(runner)) == [urgent["id"]]
    assert ids(placed.claim(runner)) == [less["id"]]
    assert len(placed.claim(runner, 4)) == 4
    assert ids(placed.claim(runner)) == [lowest["id"]]


def test_what_came_in_behind_a_place_is_not_left_where_a_claim_comes_up_short(
    queue, runner, placed
):
    behind = queue.create(run_at="2020-01-01 00:00Z")

    assert behind["id"] not in ids(placed.claim(runner, 2))
    assert ids(placed.claim(runner, 5)) == [behind["id"], *ids(queue.rows(
        "select id from persona.jobs where status = 'running' and priority = 0"
        " and id <> %s order by seq offset 2", behind["id"]))]  # fmt: skip
    assert placed.claim(runner) == []


def test_what_came_in_behind_a_place_goes_first_once_the_place_is_old(queue, runner, placed):
    behind = queue.create(run_at="2020-01-01 00:00Z")
    last(placed, later=-200)

    assert ids(placed.claim(runner)) == [behind["id"]]


def test_the_place_goes_on_once_much_is_dead_behind_it_and_back_with_the_transaction(
    queue, runner, placed
):
    placed.fill(600)
    before = place(placed)
    assert len(placed.claim(runner, 250)) == 250
    assert place(placed) == before

    [next_one] = placed.claim(runner)
    [level] = place(placed)["levels"]
    assert level["seq"] == queue.value("select seq from persona.jobs where id = %s", next_one["id"])
    assert place(placed)["until"] == before["until"]

    before = place(placed)
    assert len(placed.claim(runner, 250)) == 250
    with placed.conn.transaction(force_rollback=True):
        placed.claim(runner)
        assert place(placed) != before
    assert place(placed) == before


def test_a_short_walk_ends_the_place(queue, runner, placed, snapshot):
    """Nobody holds a snapshot any more, and what was dead has been swept up."""
    placed.drain(runner)
    last(placed, later=-200)
    snapshot.rollback()
    queue.run("vacuum persona.job_queue")
    for _ in range(2):
        queue.create()

    assert len(placed.claim(runner)) == 1
    assert not placed.value("select current_setting('persona.claim_place', true)")
