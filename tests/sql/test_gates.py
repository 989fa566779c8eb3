"""Gates: a provider that refuses is left alone by all runners until it can be tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqltest import refused


@pytest.fixture(autouse=True)
def _provider(queue):
    queue.agent("p", provider="anthropic", max_attempts=1)


def made(queue, count=1, **options):
    return [queue.create(agent="p", **options) for _ in range(count)]


def refuse(queue, runner, run, **more):
    return queue.report(runner, run, "rate_limited", error="429", **{"retry_in": 5} | more)


def reset(queue):
    """Let the time of all closed gates have come."""
    queue.run("update persona.gates set reopens_at = now() where state = 'closed'")


def gate(queue):
    return queue.row("select * from persona.gates where account = ''")


def test_50_jobs_of_a_provider_that_refuses_the_third(queue, runner):
    other = queue.runner("other")
    jobs = made(queue, 50)
    starts = 0

    running = queue.claim(runner, 2) + queue.claim(other, 2)
    starts += len(running)
    queue.report(runner, running[0])
    queue.report(runner, running[1])
    refuse(queue, other, running[2])
    assert queue.claim(runner, 5) == queue.claim(other, 5) == []
    refuse(queue, other, running[3])
    assert len(queue.alerts()) == 1
    assert "until" in queue.explain(jobs[9])
    due = queue.one("idle_state", runner_id=runner)
    assert (due["claimable"], 3 < due["due_in_seconds"] <= 5) == (False, True)

    reset(queue)
    assert queue.one("idle_state", runner_id=runner)["claimable"]
    [probe] = queue.claim(other, 5)
    starts += 1
    assert probe["id"] == jobs[2]["id"], "what was refused has kept its place"
    assert queue.claim(runner, 5) == queue.claim(other, 5) == []
    assert probe["short_id"] in queue.explain(jobs[9])
    assert not queue.one("idle_state", runner_id=runner)["claimable"]
    queue.report(other, probe)

    rest = queue.claim(runner, 100)
    starts += len(rest)
    for run in rest:
        queue.report(runner, run)
    assert starts == 50 + 2, "two of the four that ran were refused, one of them was the probe"
    assert {queue.job(j)["status"] for j in jobs} == {"completed"}
    assert {queue.job(j)["attempt"] for j in jobs} == {1}
    assert [a["kind"] for a in queue.alerts()] == ["gate_closed"]


def test_a_refused_probe_closes_the_gate_again_without_another_alert(queue, runner):
    made(queue, 3)
    refuse(queue, runner, *queue.claim(runner))
    reset(queue)
    [probe] = queue.claim(runner, 5)

    refuse(queue, runner, probe, retry_in=60)

    assert gate(queue)["state"] == "closed"
    assert queue.claim(runner, 5) == []
    assert len(queue.alerts()) == 1


@pytest.mark.parametrize(
    ("outcome", "more", "state"),
    [("completed", {}, "open"), ("failed", {"failure_kind": "tool_error"}, "open"),
     ("timeout", {}, "open"), ("failed", {"failure_kind": "not_found"}, "closed"),
     ("given_back", {}, "closed"), ("orphaned", {}, "closed")],
)  # fmt: skip
def test_how_a_probe_ends_decides(queue, runner, outcome, more, state):
    made(queue, 3)
    refuse(queue, runner, *queue.claim(runner))
    reset(queue)
    [probe] = queue.claim(runner, 5)

    queue.report(runner, probe, outcome, **more)

    assert gate(queue)["state"] == state
    assert len(queue.claim(runner, 5)) == (1 if state == "closed" else 2)


def test_a_probe_that_was_lost_is_followed_by_another(queue, runner):
    made(queue, 3)
    refuse(queue, runner, *queue.claim(runner))
    reset(queue)
    [probe] = queue.claim(runner, 5)
    queue.expire(probe)
    assert queue.claim(runner, 5) == []

    queue.call("recover_hung_jobs")

    assert len(queue.claim(runner, 5)) == 1


@pytest.mark.parametrize("kind", ["auth", "billing"])
def test_what_only_a_person_can_mend_closes_until_a_person_opens(queue, runner, kind, another):
    jobs = made(queue, 3)
    queue.report(runner, *queue.claim(runner), "failed", failure_kind=kind, error="401")

    assert queue.claim(runner, 5) == []
    assert "persona gate open anthropic" in queue.explain(jobs[1])
    assert queue.one("idle_state", runner_id=runner) == {"claimable": False, "due_in_seconds": None}
    assert sorted(a["kind"] for a in queue.alerts()) == ["gate_closed", "job_failed"]

    listener = another("listener")
    listener.listen()
    queue.one("open_gate", provider="anthropic")
    assert listener.heard() == ["*"]
    assert len(queue.claim(runner, 5)) == 2


def test_an_old_refusal_does_not_disturb_the_probe_and_a_success_from_before_opens_nothing(
    queue, runner
):
    made(queue, 5)
    first, second, third = queue.claim(runner, 3)
    refuse(queue, runner, first)
    queue.report(runner, second)
    assert gate(queue)["state"] == "closed"
    reset(queue)
    [probe] = queue.claim(runner, 5)

    refuse(queue, runner, third)

    assert (gate(queue)["state"], gate(queue)["probe_job_id"]) == ("probing", probe["id"])


def test_two_claims_at_once_start_one_probe(queue, runner, another):
    made(queue, 5)
    refuse(queue, runner, *queue.claim(runner))
    reset(queue)
    other = queue.runner("other")
    one, two = another("one"), another("two")

    with one.conn.transaction():
        assert len(one.claim(runner, 5)) == 1
        assert two.claim(other, 5) == []
        assert two.one("idle_state", runner_id=other)["claimable"], "it must not sleep yet"
    assert two.claim(other, 5) == []
    assert not two.one("idle_state", runner_id=other)["claimable"]


def test_a_gate_of_one_account_leaves_the_others_alone(queue, runner):
    queue.agent("q", provider="anthropic")
    queue.one("update_agent", name="p", changes={"account": "team"})
    job, other = *made(queue), queue.create(agent="q")
    second = queue.create(agent="p")
    runs = {r["id"]: r for r in queue.claim(runner, 2)}

    refuse(queue, runner, runs[job["id"]])
    assert "account team" in queue.explain(second)
    queue.report(runner, runs[other["id"]])
    assert queue.claim(runner, 5) == []
    last = queue.create(agent="q")

    assert [r["id"] for r in queue.claim(runner, 5)] == [last["id"]]


def test_a_person_closes_and_opens(queue, runner):
    [job] = made(queue)
    with refused("PJ422", "provider"):
        queue.one("open_gate", provider="nobody")
    queue.one("close_gate", provider="anthropic", reason="bill is being looked at")
    assert queue.claim(runner) == []
    assert "bill is being looked at" in queue.explain(job)

    queue.one("open_gate", provider="anthropic")

    assert len(queue.claim(runner)) == 1


def test_the_first_job_of_the_highest_priority_is_the_probe(queue, runner):
    queue.agent("q", provider="anthropic")
    made(queue)
    wanted = queue.create(agent="q", priority=3)
    queue.one("close_gate", provider="anthropic", reopens_at="now")
    queue.run("update persona.gates set reopens_at = now() - %s", timedelta(seconds=1))

    assert [r["id"] for r in queue.claim(runner, 5)] == [wanted["id"]]
