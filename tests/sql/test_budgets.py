"""Budgets: reserved at claim, exact whoever claims; what is held for money, and how it goes on."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqltest import Queue, refused

CENT = Decimal("0.01")


@pytest.fixture
def money(queue):
    """Agents that cost money: a costs 0.30 at most, b has no maximum and no history."""
    queue.agent(costs_money=True, max_cost_usd=0.30)
    queue.agent("b", costs_money=True)
    queue.agent("free")
    return queue


def use(queue, name="all"):
    [row] = queue.rows("select * from persona.budget_use where name = %s", name)
    return tuple(float(row[c]) for c in ("used_usd", "reserved_usd", "left_usd"))


def ledger(queue):
    return [
        (r["kind"], float(r["amount_usd"]))
        for r in queue.rows("select kind, amount_usd from persona.cost_ledger order by id")
    ]


def test_a_claim_reserves_and_a_report_settles(money, runner):
    money.one("set_budget", name="all", limit_usd=1)
    run = money.start(runner)
    assert use(money) == (0, 0.3, 0.7)

    money.report(runner, run, cost_usd=0.1)
    assert use(money) == (0.1, 0, 0.9)
    assert ledger(money) == [("reserved", 0.3), ("released", 0.3), ("booked", 0.1)]
    money.call("tick")
    assert use(money) == (0.1, 0, 0.9)


def test_what_is_reserved_lets_others_wait_and_what_is_spent_holds_them(money, runner):
    money.one("set_budget", name="all", limit_usd=1)
    jobs = [money.create() for _ in range(6)]
    runs = money.claim(runner, 6)
    assert [r["id"] for r in runs] == [j["id"] for j in jobs[:3]]
    assert not money.one("idle_state", runner_id=runner)["claimable"], "nobody spins"
    assert [money.status(j) for j in jobs[3:]] == ["pending"] * 3
    assert money.explain(jobs[3]) == (
        "waits: budget all: $0.00 of $1.00 used and $0.90 reserved for what runs,"
        " the job needs about $0.30"
    )
    assert money.value("select waiting_for from persona.job_dashboard where id = %s",
                       jobs[3]["id"]) == "budget all"  # fmt: skip

    money.report(runner, runs[0], cost_usd=0.1)
    [fourth] = money.claim(runner, 6)
    assert fourth["id"] == jobs[3]["id"]
    for run in (*runs[1:], fourth):
        money.report(runner, run, cost_usd=0.25)
    assert use(money) == (0.85, 0, 0.15)

    assert money.one("idle_state", runner_id=runner)["claimable"], "somebody has to hold it"
    assert money.claim(runner, 6) == []
    assert money.job(jobs[4])["status_reason"] == (
        "over budget all: $0.85 of $1.00 used, the job needs about $0.30"
    )
    assert [money.status(j) for j in jobs[4:]] == ["held", "held"]
    assert money.explain(jobs[5]).endswith("persona budget set all USD raises it")
    assert not money.one("idle_state", runner_id=runner)["claimable"]


def test_what_runs_when_a_budget_is_set_is_reserved_too(money, runner):
    money.start(runner, agent="free")
    run = money.start(runner)
    assert ledger(money) == []
    money.one("set_budget", name="all", limit_usd=0.5)
    assert use(money) == (0, 0.3, 0.2)
    waiting = money.create()
    assert money.claim(runner) == []
    assert money.status(waiting) == "pending"
    money.report(runner, run, cost_usd=0.1)
    assert [r["id"] for r in money.claim(runner)] == [waiting["id"]]


@pytest.mark.parametrize(
    ("scope", "subject"),
    [("total", None), ("agent", None), ("agent", "a"), ("business", "acme"), ("tree", None)],
)
def test_a_budget_counts_what_its_scope_says(money, runner, scope, subject):
    money.one("set_budget", name="all", limit_usd=0.3, scope=scope, subject=subject)
    money.agent(may_delegate_to=["a"])
    top = money.start(runner, business="acme")
    other = money.create("u", agent="b", business="other")
    below = money.one("create_child_job", runner_id=runner, job_id=top["id"], lease=top["lease"],
                      job_type="t", agent="a")  # fmt: skip

    started = {r["id"] for r in money.claim(runner, 5)}

    assert (other["id"] in started) == (scope != "total")
    assert below["id"] not in started
    assert below["business"] == "acme"


def test_a_job_without_a_price_asks_no_budget(money, runner):
    money.one("set_budget", name="all", limit_usd=0)
    free = money.create(agent="free")
    held = money.create()
    assert [r["id"] for r in money.claim(runner, 2)] == [free["id"]]
    assert money.status(held) == "held"
    money.report(runner, {"id": free["id"], "lease": money.job(free)["lease"]}, cost_usd=0.5)
    assert money.job(money.create("t", agent="free"))["status"] == "pending"
    assert money.claim(runner, 2) == [], "it has cost something, so the next one will"


def test_the_estimate_is_a_maximum_then_the_history_then_a_setting(money, runner):
    money.one("set_budget", name="all", limit_usd=100)

    def reserved(**options):
        run = money.start(runner, **options)
        return run, float(money.value(
            "select reserved_usd from persona.job_leases where job_id = %s", run["id"]))  # fmt: skip

    run, amount = reserved(agent="b")
    assert amount == 0.25
    money.report(runner, run, cost_usd=0.01)
    for cents in range(2, 11):
        run = money.start(runner, agent="b")
        money.report(runner, run, cost_usd=str(cents * CENT))
    assert reserved(agent="b")[1] == pytest.approx(0.091)
    assert reserved(job_type="other", agent="b")[1] == 0.25
    assert reserved(agent="b", max_cost_usd=0.7)[1] == 0.7
    run, amount = reserved(max_cost_usd=0.2)
    assert amount == 0.2
    assert run["max_cost_usd"] == 0.2, "the runner may tell the program"


def test_a_job_keeps_to_its_own_maximum_and_goes_on_with_more(money, runner):
    queue = money
    run = queue.start(runner, max_cost_usd=0.5)
    queue.report(runner, run, "failed", failure_kind="budget", error="spent", cost_usd=0.5,
                 session_id="s")  # fmt: skip
    assert queue.job(run)["status_reason"] == "budget: spent"
    with refused("PJ402", "over budget max cost of job .*: [$]0.50 of [$]0.50 used") as told:
        queue.act("release_job", run)
    assert told.hint == f"persona release {run['short_id']} --max-cost USD gives it more."
    assert "--max-cost" in queue.explain(run)

    queue.act("release_job", run, max_cost_usd=1)
    [again] = queue.claim(runner)
    assert (again["id"], again["session_id"], again["max_cost_usd"]) == (run["id"], "s", 0.3)
    queue.report(runner, again, "failed", failure_kind="crashed", cost_usd=0.6)
    queue.make_due(run)
    assert queue.claim(runner) == []
    assert queue.job(run)["status_reason"].startswith("over budget max cost of job")


def test_children_spend_what_the_top_of_their_tree_may_cost(money, runner):
    money.agent(max_cost_usd=0.1, may_delegate_to=["a"])
    top = money.start(runner, max_cost_usd=0.3)

    def delegate():
        return money.one("create_child_job", runner_id=runner, job_id=top["id"],
                         lease=top["lease"], job_type="t", agent="a")  # fmt: skip

    first, second, third = (delegate() for _ in range(3))
    runs = money.claim(runner, 5)
    assert [r["id"] for r in runs] == [first["id"], second["id"]]
    for run in runs:
        money.report(runner, run, cost_usd=0.1)
    assert money.claim(runner, 5) == []
    assert money.explain(third).startswith(f"waits: budget max cost of job {top['short_id']}: ")

    money.call("job_call", runner_id=runner, job_id=top["id"], lease=top["lease"], command="wait",
               body={"ids": [str(third["id"])]})  # fmt: skip
    assert money.claim(runner, 5) == []
    assert money.job(third)["status_reason"].startswith(
        f"over budget max cost of job {top['short_id']}"
    ), "its own money comes back only when this one has run"
    with refused("PJ402") as told:
        money.act("release_job", third)
    assert told.hint.startswith(f"persona release {top['short_id']} --max-cost")
    money.act("release_job", top, max_cost_usd=1)
    assert [r["id"] for r in money.claim(runner, 5)] == [third["id"]]


@pytest.mark.parametrize("more", ["raise", "remove", "off", "period"])
def test_what_is_held_goes_on_when_there_is_money(money, runner, more):
    money.one("set_budget", name="all", limit_usd=0.3, period="day")
    money.report(runner, money.start(runner), cost_usd=0.2)
    jobs = [money.create() for _ in range(2)]
    assert money.claim(runner, 2) == []
    with refused("PJ402", "over budget all: [$]0.20 of [$]0.30 used today"):
        money.act("release_job", jobs[0])
    if more == "period":
        due = money.one("idle_state", runner_id=runner)["due_in_seconds"]
        now = datetime.now(UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        assert due == pytest.approx((midnight - now).total_seconds(), abs=60)
        for table in ("cost_totals", "cost_fresh"):
            money.run(f"update persona.{table} set day = day - 1")
        assert money.explain(jobs[0]).endswith(f"goes on {midnight:%Y-%m-%d %H:%M:%S}+00")
        money.call("tick")
        assert [money.status(j) for j in jobs] == ["pending", "held"], "so many as have room"
    elif more == "remove":
        money.one("remove_budget", name="all")
    else:
        change = {"limit_usd": 9} if more == "raise" else {"is_active": False}
        money.one("set_budget", name="all", **change)

    started = [r["id"] for r in money.claim(runner, 5)]
    assert started == [j["id"] for j in jobs][: 1 if more == "period" else 2]


@pytest.mark.parametrize("end", ["orphaned", "given_back", "by hand", "deleted"])
def test_no_end_of_an_execution_leaves_its_reservation(money, runner, end):
    money.one("set_budget", name="all", limit_usd=1)
    run = money.start(runner)
    if end == "by hand":
        money.run("update persona.jobs set status = 'failed' where id = %s", run["id"])
    elif end == "deleted":
        money.run("delete from persona.jobs where id = %s", run["id"])
    elif end == "orphaned":
        money.expire(run)
        money.call("recover_hung_jobs")
    else:
        money.report(runner, run, end)
    assert use(money) == (0, 0, 1)
    assert ledger(money) == [("reserved", 0.3), ("released", 0.3)]


def test_what_a_lost_runner_reports_too_late_was_spent_all_the_same(money, runner):
    money.one("set_budget", name="all", limit_usd=1)
    run = money.start(runner)
    money.expire(run)
    money.call("recover_hung_jobs")
    for _ in range(2):
        told = money.report(runner, run, cost_usd=0.2, session_id="s", is_cumulative_cost=True)
        assert told["status"] == "lost"
    assert use(money) == (0.2, 0, 0.8)
    [run] = money.claim(runner)
    money.report(runner, run, cost_usd=0.35, session_id="s", is_cumulative_cost=True)
    assert use(money) == (0.35, 0, 0.65)


def test_the_ledger_is_append_only(money, runner):
    money.report(runner, money.start(runner), cost_usd=0.1)
    for change in (
        "update persona.cost_ledger set amount_usd = 0",
        "delete from persona.cost_ledger",
    ):
        with refused("PJ423", "append only"):
            money.run(change)


def test_alerts_tell_of_80_and_of_100_percent_once_a_period(money, runner):
    money.one("set_budget", name="all", limit_usd=1)

    def told():
        return [(a["detail"]["percent"], a["message"]) for a in money.alerts()]

    for cost in (0.5, 0.29):
        money.report(runner, money.start(runner), cost_usd=cost)
    assert told() == []
    money.report(runner, money.start(runner, agent="b", max_cost_usd=0.1), cost_usd=0.05)
    assert told() == [(80, "budget all: $0.84 of $1.00 used has passed 80 %")]
    for _ in range(2):
        money.create()
    money.claim(runner, 2)
    [_, (percent, text)] = told()
    assert percent == 100
    assert text == (
        "over budget all: $0.84 of $1.00 used, the job needs about $0.30; the job is held"
    )
    money.one("set_budget", name="all", limit_usd=2)
    [run, _] = money.claim(runner, 2)
    money.report(runner, run, cost_usd=1)
    assert [p for p, _ in told()] == [80, 100, 80], "of another limit it is news again"


def test_two_claims_at_once_never_share_the_last_money(money, runner, another):
    money.one("set_budget", name="all", limit_usd=0.4)
    for _ in range(2):
        money.create()
    one, two = another("one"), another("two")
    with one.conn.transaction():
        assert len(one.claim(runner)) == 1
        assert two.claim(two.runner("two")) == []
        assert two.one("idle_state", runner_id=runner)["claimable"], "it must not sleep yet"
    assert two.claim(runner) == []


@pytest.mark.parametrize("how", ["booked", "by hand", "lent", "raised"])
def test_an_idle_runner_hears_of_money_that_comes_or_will_not_come(money, runner, another, how):
    money.one("set_budget", name="all", limit_usd=0.3)
    money.agent(may_delegate_to=["a"])
    run = money.start(runner)
    named = {"runner_id": runner, "job_id": run["id"], "lease": run["lease"]}
    below = money.one("create_child_job", **named, job_type="t", agent="a")
    assert money.claim(runner) == []
    listener = another("listener")
    listener.listen()

    if how == "booked":
        money.report(runner, run, cost_usd=0)
    elif how == "by hand":
        money.run("update persona.jobs set status = 'completed' where id = %s", run["id"])
    elif how == "lent":
        money.call("job_call", **named, command="wait", body={"ids": [str(below["id"])]})
    else:
        money.one("set_budget", name="all", limit_usd=1)

    assert "*" in listener.heard()
    money.claim(runner)
    assert money.status(below) == ("held" if how == "lent" else "running")


def test_an_older_snapshot_may_not_claim_under_a_budget(money, runner):
    money.one("set_budget", name="all", limit_usd=1)
    money.create()
    with refused("PJ422", "READ COMMITTED"), money.conn.transaction():
        money.run("set transaction isolation level repeatable read")
        money.claim(runner)


def test_eight_runners_never_pass_a_budget(money, connect):
    """The sum of what is booked and reserved stays below the limit at every moment."""
    money.one("set_budget", name="all", limit_usd=1)
    money.call("create_jobs", jobs=[{"job_type": "t", "agent": "a"}] * 40)
    most = []
    done = threading.Event()

    def work(number):
        chance = random.Random(number)
        mine = Queue(connect(f"claimer {number}"))
        runner = mine.runner(f"runner {number}")
        while True:
            for run in mine.claim(runner, chance.randint(1, 2)):
                cost = str(Decimal(chance.randint(10, 30)) * CENT)
                mine.report(runner, run, cost_usd=cost)
            if not mine.value("select exists (select from persona.jobs where status in"
                              " ('pending', 'running'))"):  # fmt: skip
                return

    def watch():
        mine = Queue(connect("watcher"))
        while not done.wait(0.01):
            used, reserved, _ = use(mine)
            most.append(used + reserved)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()

    used, reserved, left = use(money)
    assert reserved == 0
    assert 0.7 < used <= 1
    assert left < 0.3
    assert max(most) <= 1
    reasons = money.rows("select status, status_reason, cost_usd from persona.jobs")
    assert {r["status"] for r in reasons} == {"completed", "held"}
    assert all(r["status_reason"].startswith("over budget all: ") for r in reasons
               if r["status"] == "held")  # fmt: skip
    assert float(sum(r["cost_usd"] or 0 for r in reasons)) == pytest.approx(used)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "No Name", "limit_usd": 1}, {"limit_usd": -1}, {}, {"limit_usd": 1, "scope": "x"},
        {"limit_usd": 1, "period": "week"}, {"limit_usd": 1, "subject": "a"},
        {"limit_usd": 1, "scope": "agent", "subject": "nobody"},
    ],
)  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused(queue, wrong):
    with refused("PJ422"):
        queue.one("set_budget", **{"name": "x"} | wrong)


def test_a_changed_budget_keeps_what_is_not_named(queue):
    queue.one("set_budget", name="x", limit_usd=1, scope="agent", subject="a", period="day")
    found = queue.one("set_budget", name="x", limit_usd=2)
    assert (found["scope"], found["subject"], found["period"]) == ("agent", "a", "day")
    found = queue.one("set_budget", name="x", subject="")
    assert (found["subject"], found["limit_usd"]) == (None, 2)
    with refused("PJ422", "there are: x"):
        queue.one("remove_budget", name="y")


@pytest.mark.parametrize("scope", ["agent", "business", "tree", "job"])
def test_a_budget_of_each_is_listed_before_anything_was_spent(queue, scope):
    queue.one("set_budget", name="each", limit_usd=1, scope=scope)
    [row] = queue.call("list_budgets")
    assert (row["subject"], row["limit_usd"], row["used_usd"], row["held"]) == (None, 1, None, 0)


def test_a_viewer_sees_budgets(queue, another):
    queue.one("set_budget", name="x", limit_usd=1)
    queue.run("grant persona_viewer to current_user")
    viewer = another("viewer")
    viewer.run("set role persona_viewer")
    assert viewer.value("select left_usd from persona.budget_use") == 1


def test_rpc_says_over_budget(money, runner):
    money.one("set_budget", name="all", limit_usd=0.1)
    job = money.create()
    money.claim(runner)
    told = money.one("rpc", command="release", body={"id": str(job["id"])})["rpc"]
    assert (told["ok"], told["error"]["code"]) == (False, "over_budget")
    assert told["error"]["detail"]["budget"] == "all:"
