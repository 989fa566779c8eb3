"""Jobs that are claimed before there is a slot for them."""

from __future__ import annotations

import asyncio

import pytest

from persona_pg.runner.ahead import Ahead
from persona_pg.runner.roster import Roster


def after_ends(count, apart, *, deep=True):
    """Return one that has seen so many ends, the last of them at the time of count * apart."""
    ahead = Ahead()
    ahead.is_queue_deep = deep
    for i in range(1, count + 1):
        ahead.ended(i * apart)
    return ahead


def test_as_many_are_claimed_ahead_as_begin_within_a_moment():
    assert after_ends(50, 0.002).count(0.1) == pytest.approx(30, abs=2)
    assert after_ends(50, 0.00001).count(0.0005) == 64, "there is a bound"
    assert after_ends(50, 0.1).count(5.0) == 0, "these are over late enough to claim the next then"


def test_none_is_claimed_ahead_where_the_queue_had_less_than_was_asked_for():
    assert after_ends(50, 0.001, deep=False).count(0.05) == 0


def test_a_few_quick_ends_are_no_flow_and_silence_ends_one():
    assert after_ends(3, 0.001).count(0.003) == 0
    ahead = after_ends(50, 0.001)
    assert ahead.count(0.05) > 20
    assert ahead.count(0.05 + 0.01) <= 6
    assert ahead.count(0.05 + 0.07) == 0


def test_one_that_has_waited_in_vain_ends_it():
    ahead = after_ends(50, 0.001)
    ahead.was_wrong()
    assert ahead.count(0.05) == 0


class Run:
    """What a roster knows of an execution."""

    def __init__(self, number):
        self.job_id, self.lease = f"j{number}", 1
        self.child, self.was_not_startable = object(), False
        self.begun, self.told = False, None
        self.is_over = asyncio.Event()

    def begin(self):
        self.begun = True

    def stop(self, reason, *, force=False):
        self.told = (reason, force)

    async def run(self):
        await self.is_over.wait()


class World:
    """A roster with two slots, in which jobs end fast."""

    def __init__(self):
        self.slots = 2
        self.roster = Roster(
            asyncio.get_running_loop(),
            slots=lambda: self.slots,
            taken=lambda: self.roster.begun,
            on_fault=lambda: None,
        )
        self.roster.ahead = after_ends(50, 0.001)
        self.runs = []

    def add(self, count):
        for _ in range(count):
            self.runs.append(Run(len(self.runs)))
            self.roster.add(self.runs[-1])
        return [run.begun for run in self.runs]

    def end(self, number):
        self.runs[number].is_over.set()
        self.roster.ended(self.runs[number])
        return [run.begun for run in self.runs]


def test_what_is_claimed_ahead_begins_when_another_one_ends_and_not_before():
    async def body():
        world = World()
        assert world.add(4) == [True, True, False, False]
        assert (world.roster.begun, world.roster.has_waiting, world.roster.wanted()) == (2, True, 0)
        assert world.end(1) == [True, True, True, False], "in the order in which they were claimed"
        world.slots = 0  # no guardian, or it is to end
        assert world.end(0) == [True, True, True, False]
        world.roster.stop_waiting()
        assert [run.told for run in world.runs] == [None, None, None, ("drain", False)]

    asyncio.run(body())


def test_what_has_waited_too_long_for_its_slot_is_given_back_and_the_others_go_on():
    async def body():
        world = World()
        world.add(3)
        async with asyncio.timeout(30):
            while world.runs[2].told is None:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
        assert [run.told for run in world.runs] == [None, None, ("busy", False)]
        world.end(2)
        assert not world.roster.has_waiting
        assert world.end(0)[2] is False, "it is not begun any more"
        assert world.roster.wanted() == 1, "none is claimed ahead again at once"

    asyncio.run(body())


def test_slow_jobs_among_fast_ones_keep_to_the_slots_and_cost_nobody_an_attempt(
    jobs, conn, worker, tmp_path
):
    """One slot: whoever finds the folder of another one was begun beside it."""
    script = """
    mkdir slot || echo beside >> beside
    sleep "$1"
    rmdir slot
    """
    seconds = (*["0"] * 15, "0.4", *["0"] * 10)
    made = [jobs.command("sh", "-c", script, "sh", one, cwd=tmp_path) for one in seconds]
    worker("--concurrency", 1, "--drain").wait(120)

    assert not (tmp_path / "beside").exists()
    assert {(jobs.row(job).status, jobs.row(job).attempt) for job in made} == {("completed", 1)}
    counted = conn.execute("select count(*) from persona.job_attempts where is_counted").fetchone()
    assert counted == (len(made),)


def test_the_pid_of_a_job_that_lasts_is_told_long_before_the_next_heartbeat(
    jobs, conn, worker, eventually
):
    worker(env={"JOB_HEARTBEAT_INTERVAL": "90s"})
    job = jobs.sh("exec sleep 600")
    told = "select pid from persona.job_leases where job_id = %s and pid is not null"
    eventually(lambda: conn.execute(told, (job,)).fetchone(), 60)
    jobs.cancel(job, force=True)
