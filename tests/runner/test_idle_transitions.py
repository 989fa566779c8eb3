"""P7 at random: many creates into many idle moments, with the poll interval set to never.

The runner's own rule (ClaimCycle) against a real server, one thread a runner and a creator, and a
random pause before each commit that matters.  Each creator waits for its own job.  The same with the
rule broken in the two ways in which it is tempting to break it loses wake-ups.  Below, the same two
moments without chance.
"""

from __future__ import annotations

import random
import select
import threading
import time
from dataclasses import dataclass, field

import pgtest
import psycopg
import pytest
from psycopg.types.json import Jsonb

from persona_pg.runner import calls, wakefulness
from persona_pg.runner.claims import ClaimCycle, Phase

PAUSE = 0.003


class NoSecondLook(ClaimCycle):
    """Sleeps as soon as a claim has come up short."""

    def _taken(self, answers, now):
        jobs = answers[0] or []
        if len(jobs) < self._asked:
            self._sleep(None, now)
        return jobs


class NoStartOver(ClaimCycle):
    """Goes on settling after it has found work, which has taken its idle mark away."""

    def _taken(self, answers, now):
        if self.phase is Phase.SETTLING and answers[1]:
            return answers[1]
        return super()._taken(answers, now)


class NoSecondWait(ClaimCycle):
    """Once it has waited for all who could not see its mark, believes that this holds for ever."""

    def _claimed(self, *, has_found, now):
        was_known = self._is_known
        super()._claimed(has_found=has_found, now=now)
        self._is_known = was_known
        if was_known and self.phase is Phase.HORIZON:
            self.phase = Phase.LOOKING


class NoMark(ClaimCycle):
    """Goes to sleep as soon as it need not stay awake any more."""

    def _claimed(self, *, has_found, now):
        super()._claimed(has_found=has_found, now=now)
        if self._stays_awake and not self._wakefulness.is_awake:
            self._sleep(None, now)


@dataclass
class Scene:
    """What the threads share."""

    connect: object
    cycle: type = ClaimCycle
    patience: float = 20.0
    over: threading.Event = field(default_factory=threading.Event)
    started: dict = field(default_factory=dict)
    asleep: set = field(default_factory=set)
    sleeps: int = 0
    looks: int = 0
    # So long a creator waits at most between two jobs.  It follows what the runner takes until it
    # sleeps, on a machine of any speed: about half of the jobs find it asleep, the others on the way.
    think: float = 0.01
    lost: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    def event(self, job_id):
        return self.started.setdefault(str(job_id), threading.Event())

    def guarded(self, function, *arguments):
        def run():
            try:
                function(self, *arguments)
            except BaseException as exc:  # noqa: BLE001 - told in the test's own thread
                self.failures.append(exc)
                self.over.set()

        return threading.Thread(target=run, daemon=True)


def runner(scene, number):
    """Claim one at a time as a runner does, and report each at once."""
    chance = random.Random(number)
    conn = scene.connect(f"runner {number}")
    raw = psycopg.RawCursor(conn)
    conn.execute("listen persona_wake")
    # It sends no heartbeats, and the mark of a runner that has died counts until its lease has ended.
    register = "select id::text from persona.register_runner(%s, 'host', 1, lease => '1 day')"
    (runner_id,) = conn.execute(register, (f"r{number}",)).fetchone()
    cycle = scene.cycle(runner_id, net_interval=None)
    cycle.connection = one(raw, calls.open_connection(runner_id))
    heard = threading.Event()
    conn.add_notify_handler(lambda _: heard.set())
    while not scene.over.is_set():
        # Whoever asks for more than there is keeps its mark.
        steps = cycle.steps(chance.choice((1, 1, 2)), time.monotonic())
        scene.looks += any(b"stays_awake" in step.sql for step in steps)
        if not steps:
            sleep(scene, conn, cycle, number)
        answers = []
        for step in steps:
            with conn.transaction():
                answers.append(one(raw, step))
                if b"claim_jobs" in step.sql:
                    time.sleep(PAUSE * chance.random())
        jobs = cycle.take(answers, time.monotonic()) if steps else []
        if heard.is_set():
            heard.clear()
            cycle.notified(time.monotonic())
        for job in jobs:
            scene.think = min(0.05, scene.think * 1.1)
            scene.event(job["id"]).set()
            item = {"job_id": job["id"], "lease": job["lease"], "outcome": "completed"}
            conn.execute("select persona.complete_jobs(%s, %s)", (runner_id, Jsonb([item])))


def one(raw, step):
    (answer,) = raw.execute(step.sql, step.params).fetchone()
    return answer


def sleep(scene, conn, cycle, number):
    """Wait for a notification, or until the cycle wants to go on."""
    until = cycle.next_at
    if cycle.is_asleep:
        scene.sleeps += 1
        scene.think *= 0.9
        scene.asleep.add(number)
    while not scene.over.is_set():
        wait = 0.2 if until is None else min(0.2, max(0.0, until - time.monotonic()))
        select.select([conn.fileno()], [], [], wait)
        conn.pgconn.consume_input()
        if conn.pgconn.notifies() is not None:
            while conn.pgconn.notifies() is not None:
                pass
            cycle.notified(time.monotonic())
            break
        if until is not None and time.monotonic() >= until:
            break
    scene.asleep.discard(number)


def creator(scene, number, jobs, runners):
    """Create one job after the other, and wait for each until it has been claimed."""
    chance = random.Random(100 + number)
    conn = scene.connect(f"creator {number}")
    for _ in range(jobs):
        if scene.over.is_set():
            return
        time.sleep(scene.think * chance.random())
        if chance.random() < 0.2:
            # On a slow machine it might never get as far.
            pgtest.eventually(lambda: scene.asleep or scene.over.is_set(), 60, interval=0.001)
        with conn.transaction():
            (job_id,) = conn.execute(
                "select id from persona.create_job('t', agent => 'a')"
            ).fetchone()
            time.sleep(PAUSE * chance.random())
        claimed = scene.event(job_id)
        while not claimed.wait(scene.patience) and not scene.over.is_set():
            # Not late: there it is, and everybody sleeps.
            if len(scene.asleep) == runners:
                scene.lost.append(job_id)
                scene.over.set()
        del scene.started[str(job_id)]


def play(scene, *, jobs, creators=2, runners=1):
    (setup := scene.connect("setup")).execute(
        "select name from persona.register_agent('a', argv => '{true}')"
    )
    asking = [scene.guarded(runner, n) for n in range(runners)]
    making = [scene.guarded(creator, n, jobs // creators, runners) for n in range(creators)]
    for thread in asking + making:
        thread.start()
    for thread in making:
        thread.join()
    scene.over.set()
    for thread in asking:
        thread.join()
    assert scene.failures == []
    return setup


def completed(conn):
    (number,) = conn.execute(
        "select count(*) from persona.jobs where status = 'completed'"
    ).fetchone()
    return number


@pytest.fixture(autouse=True)
def _easily_kept_awake(monkeypatch):
    """Both ways, to staying awake and back to sleep, are gone often."""
    monkeypatch.setattr(wakefulness, "_NAP_SECONDS", 0.02)
    monkeypatch.setattr(wakefulness, "_FRUITLESS", 2)


def test_p7_no_wake_up_is_lost_at_random_moments(connect):
    scene = Scene(connect)

    setup = play(scene, jobs=100)

    assert scene.lost == []
    assert completed(setup) == 100
    assert scene.sleeps > 5
    assert scene.looks > 5


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_p7_no_wake_up_is_lost_in_100000_creates(connect):
    scene = Scene(connect)

    setup = play(scene, jobs=100_000)

    assert scene.lost == []
    assert completed(setup) == 100_000
    assert scene.sleeps > 5_000
    assert scene.looks > 5_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cycle", [NoSecondLook, NoStartOver, NoSecondWait, NoMark])
def test_p7_a_rule_that_leaves_a_step_out_loses_wake_ups_at_random_moments(connect, cycle):
    scene = Scene(connect, cycle, patience=0.5)

    play(scene, jobs=100_000)

    assert scene.lost


# -- one moment after the other ---------------------------------------------------------------------


class Stage:
    """A runner that goes on step by step, and creators whose transactions stay open meanwhile."""

    def __init__(self, connect, cycle):
        self.connect = connect
        self.runner = connect("runner")
        self.runner.execute("select name from persona.register_agent('a', argv => '{true}')")
        self.runner.execute("listen persona_wake")
        register = "select id::text from persona.register_runner('r', 'host', 1)"
        (runner_id,) = self.runner.execute(register).fetchone()
        self.raw = psycopg.RawCursor(self.runner)
        self.cycle = cycle(runner_id, net_interval=None)
        self.cycle.connection = one(self.raw, calls.open_connection(runner_id))
        self.claimed = []

    def creating(self, name):
        """Create a job in a transaction that stays open."""
        conn = self.connect(name, autocommit=False)
        conn.execute("select id from persona.create_job('t', agent => 'a')")
        return conn

    def go(self, times=1, *, room=1):
        """Let the runner send what it would send next, whenever that is, unless it sleeps."""
        sent = []
        for _ in range(times):
            if self.cycle.is_asleep:
                break
            sent += (steps := self.cycle.steps(room, 1e9))
            self.claimed += self.cycle.take([one(self.raw, step) for step in steps], 0.0)
        return sent

    def hears(self):
        """Let the runner hear that there is work, while it sleeps."""
        self.runner.execute("select 1")
        assert {n.payload for n in self.runner.notifies(timeout=0)} == {"a"}
        self.cycle.notified(1e9)

    def is_kept_awake(self):
        """Let it be notified again and again."""
        while self.cycle.notified(0.0):
            self.go()

    def ends(self):
        """Go on to the end; return what has been claimed, asserting that nobody was notified."""
        self.go(20)
        assert self.cycle.is_asleep
        self.runner.execute("select 1")
        assert list(self.runner.notifies(timeout=0)) == []
        return len(self.claimed)


@pytest.mark.parametrize(("cycle", "claimed"), [(ClaimCycle, 1), (NoSecondLook, 0)])
def test_p7_a_creator_that_looked_before_the_mark_and_commits_after_it(connect, cycle, claimed):
    stage = Stage(connect, cycle)
    creator = stage.creating("creator")
    stage.go()  # finds nothing, is marked idle: too late for that creator
    stage.go(3)
    creator.commit()

    assert stage.ends() == claimed


@pytest.mark.parametrize(("cycle", "claimed"), [(ClaimCycle, 2), (NoStartOver, 1)])
def test_p7_a_job_that_is_found_while_settling_takes_the_mark_away(connect, cycle, claimed):
    stage = Stage(connect, cycle)
    early = stage.creating("early")
    stage.go(3)
    early.commit()
    stage.go()
    assert len(stage.claimed) == 1
    late = stage.creating("late")  # nobody is marked now, so nobody will be told
    stage.go(4)
    late.commit()

    assert stage.ends() == claimed


def test_p7_while_the_mark_stays_whoever_creates_notifies_and_nobody_is_waited_for(connect):
    stage = Stage(connect, ClaimCycle)
    stage.go(3)
    stage.creating("early").commit()
    late = stage.creating("late")
    stage.hears()
    assert len(stage.go(room=2)) == 1
    assert len(stage.claimed) == 1

    assert len(stage.go(20, room=2)) == 1
    assert stage.cycle.is_asleep
    late.commit()
    stage.hears()
    stage.go(20, room=2)

    assert len(stage.claimed) == 2


@pytest.mark.parametrize(("cycle", "claimed"), [(ClaimCycle, 2), (NoSecondWait, 1)])
def test_p7_a_runner_that_got_all_it_asked_for_waits_again(connect, cycle, claimed):
    stage = Stage(connect, cycle)
    stage.go(3)
    stage.creating("early").commit()
    stage.hears()
    stage.go()
    assert len(stage.claimed) == 1
    late = stage.creating("late")
    stage.go(4)
    late.commit()

    assert stage.ends() == claimed


@pytest.mark.parametrize(("cycle", "claimed"), [(ClaimCycle, 1), (NoSecondWait, 0), (NoMark, 0)])
def test_p7_a_runner_that_stays_awake_is_not_notified_and_waits_before_it_sleeps(
    connect, cycle, claimed
):
    stage = Stage(connect, cycle)
    stage.go(3)
    stage.is_kept_awake()
    late = stage.creating("late")
    stage.go(15)
    late.commit()

    assert stage.ends() == claimed


@pytest.mark.parametrize(("again", "claimed"), [("start_over", 1), ("wake", 0)])
def test_p7_what_a_late_claim_of_the_last_connection_did_is_not_known(connect, again, claimed):
    stage = Stage(connect, ClaimCycle)
    stage.go(3)
    stage.creating("early").commit()
    held = stage.cycle.runner_id, stage.cycle.connection
    claim = "select count(*) from persona.claim_jobs(%s, 1, %s)"
    assert connect("late claim").execute(claim, held).fetchone() == (1,)
    stage.hears()
    late = stage.creating("late")
    stage.cycle.connection = one(stage.raw, calls.open_connection(stage.cycle.runner_id))
    getattr(stage.cycle, again)()
    stage.go(4)
    late.commit()

    assert stage.ends() == claimed
