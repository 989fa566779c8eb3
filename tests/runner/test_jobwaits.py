"""Lent slots and the requests of jobs, with the database's answers given by hand."""

from __future__ import annotations

import asyncio
import json

import pytest

from persona_pg.runner import jobrequests
from persona_pg.runner.jobrequests import JobRequests
from persona_pg.runner.jobwaits import Waits
from persona_pg.runner.session import StepError


class Run:
    def __init__(self, job_id, lease=1):
        self.job_id, self.lease, self.is_waiting = job_id, lease, False


class World:
    """One runner with some executions; the test answers for the database."""

    def __init__(self, concurrency=1, running=1):
        self.executions = [Run(f"j{i}") for i in range(running)]
        self.lent = 0
        self.requests = JobRequests(kick=lambda: None)
        self.waits = Waits(
            self.requests,
            begun=lambda: len(self.executions),
            concurrency=lambda: concurrency,
            on_lent=self.on_lent,
        )

    def on_lent(self):
        self.lent += 1

    async def answer(self, **data):
        """Answer each open request by its command; return the commands that were asked."""
        await asyncio.sleep(0)
        asked = []
        for [step], take in self.requests.steps("r", asyncio.get_running_loop().time()):
            command = step.params[3]
            asked.append(command)
            take([{"ok": True, "data": data[command]}])
        for _ in range(5):
            await asyncio.sleep(0)
        return asked

    def wait(self, number=0, *ids):
        return asyncio.ensure_future(self.waits.wait(self.executions[number], list(ids)))


def open_wait(*ids):
    return {"done": False, "ids": list(ids)}


DONE = {"done": True, "jobs": []}


@pytest.fixture
def run():
    return asyncio.run


def test_a_slot_is_lent_and_the_wait_ends_only_when_it_is_there_again(run):
    async def body():
        world = World()
        waiting = world.wait()
        await world.answer(wait=open_wait("a"))
        assert (world.waits.taken, world.lent) == (0, 1)
        assert world.executions[0].is_waiting
        assert await world.answer() == []  # nobody asks without a cause

        world.executions.append(Run("child"))
        world.waits.look()
        assert await world.answer(wait=DONE) == ["wait"]
        # Its child has ended, but the slot is in use; and no claim may take it next.
        assert (world.waits.taken, waiting.done()) == (2, False)
        world.waits.forget(world.executions.pop())
        await asyncio.sleep(0)
        assert await world.answer(regain=True) == ["regain"]
        assert await waiting == {"ok": True, "data": DONE}
        assert (world.waits.taken, world.executions[0].is_waiting) == (1, False)

    run(body())


def test_what_has_ended_already_lends_nothing(run):
    async def body():
        world = World()
        waiting = world.wait()
        await world.answer(wait=DONE)
        assert (await waiting)["ok"]
        assert (world.lent, world.waits.taken) == (0, 1)

    run(body())


def test_while_one_request_of_a_job_waits_its_slot_stays_lent(run):
    async def body():
        world = World()
        first, second = world.wait(0, "a"), world.wait(0, "b")
        await world.answer(wait=open_wait("x"))
        world.waits.look()
        await asyncio.sleep(0)
        (_, take_first), (_, take_second) = world.requests.steps("r", 1e9)
        take_first([{"ok": True, "data": DONE}])
        take_second([{"ok": True, "data": open_wait("b")}])
        for _ in range(5):
            await asyncio.sleep(0)
        assert first.done() != second.done()
        assert world.waits.taken == 0
        for one in (first, second):
            one.cancel()

    run(body())


def test_a_client_that_goes_away_while_it_waits_gives_the_slot_no_second_time(run):
    async def body():
        world = World(concurrency=1)
        waiting = world.wait()
        await world.answer(wait=open_wait("a"))
        waiting.cancel()
        await asyncio.sleep(0)
        assert world.waits.taken == 1
        assert await world.answer(regain=True) == ["regain"]
        assert (world.waits.taken, world.executions[0].is_waiting) == (1, False)

    run(body())


def test_where_the_limit_of_the_agent_is_reached_it_is_asked_again(run, monkeypatch):
    monkeypatch.setattr("persona_pg.runner.jobwaits._FIRST_REST", 0.01)

    async def body():
        world = World()
        waiting = world.wait()
        await world.answer(wait=open_wait("a"))
        world.waits.look()
        await world.answer(wait=DONE)
        await world.answer(regain=False)
        assert not waiting.done()
        assert world.waits.taken == 1  # kept for it
        await asyncio.sleep(0.05)
        await world.answer(regain=True)
        assert (await waiting)["ok"]

    run(body())


def test_a_request_that_was_cut_off_is_sent_again_and_one_that_waits_too_long_is_told(
    run, monkeypatch
):
    monkeypatch.setattr(jobrequests, "_RESEND_SECONDS", 0.0)

    async def body():
        requests = JobRequests(kick=lambda: None)
        call = asyncio.ensure_future(requests.call("j", 1, "get", {"id": "x\0\ud800"}))
        await asyncio.sleep(0)
        [([step], _)] = requests.steps("r", 1e9)
        assert json.loads(step.params[4]) == {"id": "x\ufffd\ufffd"}
        [(_, take)] = requests.steps("r", 1e9)  # nothing came back: again
        take([StepError("40P01", "deadlock detected", "", "")])
        [(_, take)] = requests.steps("r", 1e9)
        take([StepError("42883", "no such function", "", "")])
        assert (await call)["error"]["code"] == "internal"
        assert requests.next_at() is None

        late = await requests.call("j", 1, "get", {}, patience=0.01)
        assert late["error"]["code"] == "db_unreachable"
        assert requests.next_at() is None

    run(body())
