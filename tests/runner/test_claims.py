"""The claim cycle: when it asks, and when it is allowed to sleep."""

from __future__ import annotations

import pytest

from persona_pg.runner.claims import ClaimCycle, Phase
from persona_pg.runner.session import StepError
from persona_pg.runner.wakefulness import LOOK_SECONDS

JOB = {"id": "1"}
HORIZON = {"horizon": "7", "holders": ["3/1"]}


def idle(due=None, *, claimable=False):
    return {"claimable": claimable, "due_in_seconds": due}


@pytest.fixture
def cycle():
    return ClaimCycle("runner", net_interval=None)


def statements(steps):
    names = ("claim_jobs", "idle_horizon", "is_settled", "idle_state")
    return [next(n for n in names if n in step.sql.decode()) for step in steps]


def to_sleep(cycle, now=0.0, due=None):
    """Bring a cycle to sleep that finds nothing; returns the steps it took."""
    found = {
        "claim_jobs": None, "idle_horizon": HORIZON, "is_settled": True, "idle_state": idle(due),
    }  # fmt: skip
    taken = []
    while not cycle.is_asleep or not taken:
        sent = statements(cycle.steps(3, now))
        assert cycle.take([found[name] for name in sent], now) == []
        taken += sent
        if not cycle.is_asleep:
            now = max(now, cycle.next_at)
    return taken


def test_before_it_sleeps_it_claims_again_after_everybody_from_before_has_ended(cycle):
    assert to_sleep(cycle) == [
        "claim_jobs", "idle_horizon", "is_settled", "claim_jobs", "idle_state",
    ]  # fmt: skip
    assert cycle.next_at is None
    assert cycle.steps(3, 1e9) == []


def test_as_many_as_were_asked_for_is_no_reason_to_settle(cycle):
    cycle.steps(2, 0.0)
    assert cycle.take([[JOB, JOB]], 0.0) == [JOB, JOB]
    assert statements(cycle.steps(1, 0.0)) == ["claim_jobs"]


def test_fewer_than_were_asked_for_start_the_settling(cycle):
    cycle.steps(2, 0.0)
    assert cycle.take([[JOB]], 0.0) == [JOB]
    assert statements(cycle.steps(1, 0.0)) == ["idle_horizon"]


@pytest.mark.parametrize(
    "answers", [[False, None, idle()], [True, None, idle(claimable=True)]], ids=["old", "locked"]
)
def test_while_it_is_not_certain_it_asks_again_with_growing_waits(cycle, answers):
    for first in ([None], [HORIZON]):
        cycle.steps(1, 0.0)
        cycle.take(first, 0.0)
    now, waits = 0.0, []
    for _ in range(14):
        assert statements(cycle.steps(1, now)) == ["is_settled", "claim_jobs", "idle_state"]
        cycle.take(answers, now)
        assert cycle.phase is Phase.SETTLING
        assert cycle.steps(1, now) == []  # not before its time
        waits.append(cycle.next_at - now)
        now = cycle.next_at
    assert waits[0] == pytest.approx(0.001)
    assert waits[-1] == pytest.approx(1.0)


def test_only_after_a_second_a_strangers_long_transaction_is_told_apart(cycle):
    for first in ([None], [HORIZON]):
        cycle.steps(1, 0.0)
        cycle.take(first, 0.0)
    assert cycle.steps(1, 0.9)[0].params[1] is None
    cycle.take([False, None, idle()], 0.9)
    assert cycle.steps(1, 1.2)[0].params[1] == '{"3/1"}'


def test_work_found_while_settling_starts_it_all_over(cycle):
    for first in ([None], [HORIZON]):
        cycle.steps(2, 0.0)
        cycle.take(first, 0.0)
    cycle.steps(2, 0.0)
    assert cycle.take([True, [JOB], idle()], 0.0) == [JOB]
    assert statements(cycle.steps(1, 0.0)) == ["claim_jobs"]


@pytest.mark.parametrize("stage", range(3))
def test_a_wake_while_an_exchange_is_under_way_is_not_lost(cycle, stage):
    stages = ([None], [HORIZON], [True, None, idle()])
    for answers in stages[:stage]:
        cycle.steps(1, 0.0)
        cycle.take(answers, 0.0)
    cycle.steps(1, 0.0)
    cycle.wake()
    cycle.take(stages[stage], 0.0)
    assert not cycle.is_asleep
    assert statements(cycle.steps(1, 0.0)) == ["claim_jobs"]


def test_jobs_that_came_with_a_wake_under_way_are_taken_and_it_goes_on(cycle):
    cycle.steps(2, 0.0)
    cycle.wake()
    assert cycle.take([[JOB]], 0.0) == [JOB]
    assert statements(cycle.steps(1, 0.0)) == ["claim_jobs"]


def test_a_wake_from_sleep_claims(cycle):
    to_sleep(cycle)
    cycle.wake()
    assert statements(cycle.steps(1, 5.0)) == ["claim_jobs"]


# -- a mark that stays ------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [None, [JOB]], ids=["nothing", "less"])
def test_while_its_mark_stays_it_has_to_wait_for_nobody_again(cycle, found):
    to_sleep(cycle)
    cycle.notified(5.0)
    cycle.steps(3, 5.0)
    cycle.take([found], 5.0)
    assert to_sleep(cycle, 5.0) == ["idle_state"]


def test_what_is_locked_then_is_asked_for_again(cycle):
    to_sleep(cycle)
    cycle.notified(5.0)
    now, waits = 5.0, []
    for _ in range(12):
        for answers in ([None], [idle(claimable=True)]):
            assert cycle.steps(3, now) != []
            cycle.take(answers, now)
        assert not cycle.is_asleep
        waits.append(cycle.next_at - now)
        now = cycle.next_at
    assert waits[0] == pytest.approx(0.001)
    assert waits[-1] == pytest.approx(1.0)


def full(cycle):
    cycle.notified(5.0)
    cycle.steps(1, 5.0)
    cycle.take([[JOB]], 5.0)


def full_while_settling(cycle):
    cycle.start_over()
    answers = ([None], [HORIZON], [True, None, idle(claimable=True)], [True, [JOB], idle()])
    for number, answer in enumerate(answers):
        cycle.steps(1, 5.0 + number)
        cycle.take(answer, 5.0 + number)


def forgotten(cycle):
    cycle.start_over()


def forgotten_under_way(cycle):
    cycle.start_over()
    for answers in ([None], [HORIZON]):
        cycle.steps(3, 5.0)
        cycle.take(answers, 5.0)
    cycle.steps(3, 5.0)
    cycle.start_over()
    cycle.take([True, None, idle()], 5.0)


def refused(cycle):
    cycle.notified(5.0)
    cycle.steps(3, 5.0)
    cycle.failed([REFUSED], 5.0)


def awake(cycle):
    now = keep_awake(cycle)
    assert b"stays_awake" in cycle.steps(3, now)[0].sql
    cycle.take([None], now)


@pytest.mark.parametrize(
    "gone", [full, full_while_settling, forgotten, forgotten_under_way, refused, awake]
)
def test_a_mark_that_was_gone_makes_it_wait_again_for_all_who_could_not_see_it(cycle, gone):
    to_sleep(cycle)
    gone(cycle)
    assert "is_settled" in to_sleep(cycle, 100.0)


# -- staying awake ----------------------------------------------------------------------------------


def keep_awake(cycle, now=5.0):
    """Notify it whenever it is about to go to sleep, until it stays awake; when it looks next."""
    while cycle.notified(now):
        cycle.steps(3, now)
        cycle.take([[JOB]], now)
    return cycle.next_at


def test_who_is_notified_before_it_has_slept_looks_by_itself_and_is_not_marked(cycle):
    to_sleep(cycle)
    looked_at = [keep_awake(cycle)]
    while b"stays_awake" in cycle.steps(3, looked_at[-1])[0].sql:
        cycle.take([None], looked_at[-1])
        looked_at.append(max(looked_at[-1], cycle.next_at))
    assert 5 <= len(looked_at) <= 20
    assert looked_at[-2] - looked_at[0] == pytest.approx((len(looked_at) - 2) * LOOK_SECONDS)
    # The last one was as usual: what it takes to sleep follows.
    assert cycle.take([None], looked_at[-1]) == []
    assert to_sleep(cycle, looked_at[-1]) == [
        "idle_horizon",
        "is_settled",
        "claim_jobs",
        "idle_state",
    ]


def test_while_it_finds_something_now_and_then_it_stays_awake(cycle):
    now = keep_awake(cycle)
    for number in range(100):
        assert b"stays_awake" in cycle.steps(3, now)[0].sql
        cycle.take([[JOB] if number % 5 == 0 else None], now)
        now = max(now, cycle.next_at)


def test_while_it_is_awake_a_notification_changes_nothing(cycle):
    at = keep_awake(cycle)
    assert not cycle.notified(5.001)
    assert cycle.next_at == at > 5.001


def test_a_job_that_ends_lets_it_look_at_once(cycle):
    keep_awake(cycle)
    assert cycle.steps(3, 5.0) == []
    cycle.wake()
    assert b"stays_awake" in cycle.steps(3, 5.0)[0].sql


def test_notifications_that_come_while_it_sleeps_leave_it_as_it_is(cycle):
    now = 0.0
    to_sleep(cycle, now)
    for _ in range(50):
        now += 0.02
        assert cycle.notified(now)
        assert cycle.notified(now)  # two at once are one
        assert b"stays_awake" not in cycle.steps(3, now)[0].sql
        cycle.take([[JOB]], now)
        to_sleep(cycle, now)


def test_without_a_free_slot_it_asks_for_nothing(cycle):
    assert cycle.steps(0, 0.0) == []
    assert cycle.steps(-2, 0.0) == []
    assert statements(cycle.steps(1, 0.0)) == ["claim_jobs"]


def test_it_sleeps_until_what_is_due_and_no_longer(cycle):
    to_sleep(cycle, now=100.0, due=2.5)
    assert cycle.next_at == pytest.approx(102.5, abs=0.01)
    assert not cycle.is_something_due(102.0)
    assert cycle.steps(1, 102.0) == []
    assert cycle.is_something_due(102.6)
    assert statements(cycle.steps(1, 102.6)) == ["claim_jobs"]


def test_what_stays_overdue_is_asked_for_ever_less_often(cycle):
    """A lease that has ended, a delayed job that somebody else has locked."""
    now, asked = 0.0, 0
    while now < 60:
        to_sleep(cycle, now=now, due=0.0)
        asked += 1
        now = cycle.next_at
    assert asked < 30
    to_sleep(cycle, now=now, due=3.0)
    to_sleep(cycle, now=cycle.next_at, due=0.0)
    assert cycle.next_at - now < 3.1


def test_the_net_is_cast_ever_less_often_and_again_often_after_a_wake():
    cycle = ClaimCycle("runner", net_interval=5.0)
    now, waits = 0.0, []
    for _ in range(6):
        to_sleep(cycle, now=now)
        waits.append(cycle.next_at - now)
        now = cycle.next_at
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    cycle.wake()
    to_sleep(cycle, now=now)
    assert cycle.next_at - now == 5.0


def test_a_net_wider_than_the_widest_is_kept_as_it_is():
    cycle = ClaimCycle("runner", net_interval=120.0)
    for now in (0.0, 1000.0, 2000.0):
        to_sleep(cycle, now=now)
        assert cycle.next_at == now + 120.0


REFUSED = StepError(sqlstate="57014", message="canceled", detail="", hint="")


def test_a_refused_neighbour_does_not_lose_the_jobs_that_the_claim_gave(cycle):
    cycle.steps(1, 0.0)
    cycle.take([None], 0.0)
    cycle.steps(1, 0.0)
    cycle.take([{"horizon": "7", "holders": []}], 0.0)
    assert len(cycle.steps(1, 1.0)) == 3

    assert cycle.failed([True, [{"id": "a"}], REFUSED], 1.0) == [{"id": "a"}]
    assert cycle.phase is Phase.CLAIM


def test_after_a_refusal_it_starts_again_a_little_later(cycle):
    cycle.steps(1, 0.0)
    assert cycle.failed([REFUSED], 10.0) == []
    assert cycle.steps(1, 10.5) == []
    assert statements(cycle.steps(1, 11.0)) == ["claim_jobs"]
