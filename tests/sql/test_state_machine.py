"""Random histories over two sessions; what must always hold is checked after every step.

The tables are compared with a small model in Python that knows who holds which lease.  At the end
of a history everything is let go: no job may be left behind.

PERSONA_TEST_HISTORIES=500 looks longer.
"""

from __future__ import annotations

import itertools
import os

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqltest import FINISHED, Queue

HISTORIES = int(os.environ.get("PERSONA_TEST_HISTORIES", "12"))
EMPTY = (
    "truncate persona.jobs, persona.job_queue, persona.job_leases, persona.job_attempts,"
    " persona.job_dependencies, persona.runners, persona.idle_runners, persona.alerts,"
    " persona.cost_ledger, persona.cost_totals, persona.cost_fresh, persona.budget_holds cascade"
)
LEGAL = {
    ("blocked", "pending"), ("blocked", "failed"), ("blocked", "cancelled"),
    ("pending", "running"), ("pending", "held"), ("pending", "cancelled"),
    ("running", "pending"), ("running", "held"), ("running", "completed"), ("running", "failed"),
    ("running", "cancelled"), ("held", "pending"), ("held", "cancelled"),
    ("failed", "pending"), ("cancelled", "pending"),
}  # fmt: skip
# One action may take a job through two steps: a needed job ends and the waiting one fails.
ALLOWED = LEGAL | {("pending", "failed")}
OUTCOMES = ["completed", "failed", "timeout", "cancelled", "held", "rate_limited", "given_back"]
OUTCOME_COLUMNS = ("status", "exit_code", "error", "result", "completed_at", "attempt", "lease")

keys = st.sampled_from([None, None, "k", "l"])
picks = st.integers(0, 1_000_000)
specs = st.fixed_dictionaries({
    "agent": st.sampled_from("aab"),
    "priority": st.integers(-1, 1),
    "lock_key": keys,
    "dedupe_key": st.sampled_from([None, None, None, "k", "l"]),
    "needs": st.one_of(st.just([]), st.just([]), st.just([]), st.lists(picks, max_size=2)),
    "below": st.one_of(st.none(), st.none(), st.none(), picks),
    "is_delayed": st.sampled_from([False, False, False, False, True]),
})  # fmt: skip


class Histories(RuleBasedStateMachine):
    """Actions of clients, runners and time."""

    sessions: tuple[Queue, Queue]

    def __init__(self):
        super().__init__()
        self.turn = itertools.cycle(self.sessions)
        self.queue.run(EMPTY)
        self.queue.agent("a", max_attempts=2, is_active=True)
        self.queue.agent("b", max_attempts=2, max_concurrent=2, is_active=True, max_cost_usd=0.1)
        self.queue.one("set_budget", name="all", limit_usd=1_000_000)
        self.runners = [self.queue.runner("one"), self.queue.runner("two", agents=["b"])]
        self.jobs = []
        self.runs = []  # (runner, claimed job), every execution there ever was
        self.live = {}  # job id -> (runner, lease)
        self.seen = {}  # job id -> row after the last step
        self.retried = set()
        self.ended = 0

    @property
    def queue(self) -> Queue:
        return next(self.turn)

    def job(self, pick):
        return self.jobs[pick % len(self.jobs)]

    def execution(self, pick):
        """Any execution there ever was; often one of a job that is running now."""
        current = [(r, run) for r, run in self.runs if run["id"] in self.live]
        among = current if current and pick % 3 else self.runs
        return among[pick // 3 % len(among)]

    def holds(self, runner, run):
        return self.live.get(run["id"]) == (runner, run["lease"])

    def forget(self, job_id):
        del self.live[job_id]
        self.ended += 1

    # -- clients -------------------------------------------------------------------------------

    @initialize(specs=st.lists(specs, min_size=8, max_size=12))
    def begin(self, specs):
        for spec in specs:
            self.create_one(spec)

    @rule(specs=st.lists(specs, min_size=1, max_size=4))
    def create(self, specs):
        for spec in specs:
            self.create_one(spec)

    def create_one(self, spec):
        queue = self.queue
        options = {name: spec[name] for name in ("agent", "priority", "lock_key", "dedupe_key")}
        if self.jobs and spec["needs"]:
            options["depends_on"] = [self.job(n)["id"] for n in spec["needs"]]
        if self.jobs and spec["below"] is not None:
            parent = queue.job(self.job(spec["below"]))
            if parent["depth"] < 5:
                options["parent_job_id"] = parent["id"]
        if spec["is_delayed"]:
            options["run_at"] = queue.value("select now() + interval '1 hour'")
        dedupe_key = spec["dedupe_key"]
        twins = queue.rows(
            "select id from persona.jobs where dedupe_key = %s and status not in"
            " ('completed', 'failed', 'cancelled')", dedupe_key)  # fmt: skip
        job = queue.create(**options)
        assert [t["id"] for t in twins] in ([], [job["id"]])
        if not twins:
            self.jobs.append(job)
            self.seen[job["id"]] = queue.job(job)

    @precondition(lambda self: self.jobs)
    @rule(
        action=st.sampled_from(["cancel_job", "hold_job", "release_job", "retry_job"]), pick=picks
    )
    def act(self, action, pick):
        queue, job = self.queue, self.job(pick)
        try:
            after = queue.act(action, job)
        except psycopg.Error as error:
            if error.sqlstate != "PJ423":
                raise
            return
        if action == "retry_job":
            self.retried.add(job["id"])
        self.settle_expired(queue)
        assert after["status"] != "running" or job["id"] in self.live

    @rule(really=st.sampled_from([False, False, False, True]))
    def cancel_pending(self, really):
        if really:
            self.queue.call("cancel_pending_jobs")

    @precondition(lambda self: self.jobs)
    @rule(pick=picks, stale=st.booleans(), priority=st.integers(-1, 1), lock_key=keys)
    def update(self, pick, stale, priority, lock_key):
        queue = self.queue
        job = queue.job(self.job(pick))
        expected = self.job(pick)["updated_at"] if stale else job["updated_at"]
        try:
            queue.one("update_job", ref=str(job["id"]), expected_updated_at=expected,
                      changes={"priority": priority, "lock_key": lock_key})  # fmt: skip
        except psycopg.Error as error:
            if error.sqlstate != ("PJ409" if expected != job["updated_at"] else "PJ423"):
                raise
            assert queue.job(job) == job
        else:
            assert expected == job["updated_at"]
            assert job["status"] in ("blocked", "pending", "held")

    @rule(name=st.sampled_from("ab"), active=st.sampled_from([True, True, False]))
    def toggle(self, name, active):
        self.queue.call("set_agent_active", name=name, active=active)

    # -- runners -------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), count=st.integers(1, 4))
    def claim(self, which, count):
        self.take(which, count)

    @rule(pick=picks, outcome=st.sampled_from(OUTCOMES))
    def work(self, pick, outcome):
        """Claim, and end one of what runs: so that histories get somewhere."""
        self.take(0, 3)
        self.nothing_illegal_happened()
        if self.live:
            job_id = sorted(self.live)[pick % len(self.live)]
            runner, run = next(
                (r, n) for r, n in self.runs if n["id"] == job_id and self.holds(r, n)
            )
            assert self.queue.report(runner, run, outcome, exit_code=1)["status"] == "ok"
            self.forget(job_id)

    def take(self, which, count):
        runner = self.runners[which]
        runs = self.queue.claim(runner, count)
        assert len(runs) <= count
        order = [(-r["priority"],) for r in runs]
        assert order == sorted(order)
        for run in runs:
            assert run["id"] not in self.live, "two executions of one job"
            assert run["lease"] > self.seen[run["id"]]["lease"]
            assert self.seen[run["id"]]["status"] == "pending"
            assert which == 0 or run["agent"] == "b"
            self.live[run["id"]] = (runner, run["lease"])
            self.runs.append((runner, run))

    @precondition(lambda self: self.runs)
    @rule(pick=picks, outcome=st.sampled_from(OUTCOMES), code=st.integers(0, 2))
    def report(self, pick, outcome, code):
        queue = self.queue
        runner, run = self.execution(pick)
        before = queue.job(run)
        answer = queue.report(runner, run, outcome, exit_code=code, cost_usd=1)
        if self.holds(runner, run):
            assert answer["status"] == "ok"
            self.forget(run["id"])
        else:
            assert answer["status"] in ("lost", "repeated")
            assert queue.job(run) == before

    @precondition(lambda self: self.runs)
    @rule(pick=picks)
    def beat(self, pick):
        runner, run = self.execution(pick)
        [told] = self.queue.beat(runner, run, progress=pick % 100)
        if not self.holds(runner, run):
            assert told == "lost"
        else:
            wanted = self.seen[run["id"]]["cancel_requested_at"] is not None
            assert told == ("cancel" if wanted else "keep")

    @rule(which=st.integers(0, 1), knows=st.booleans())
    def reconcile(self, which, knows):
        runner = self.runners[which]
        mine = {i: lease for i, (r, lease) in self.live.items() if r == runner}
        held = [{"job_id": str(i), "lease": lease} for i, lease in mine.items()] if knows else []
        back = self.queue.rows(
            "select job_id from persona.reconcile(%s, (%s::jsonb) -> 'held')",
            runner,
            {"held": held},
        )
        assert {row["job_id"] for row in back} == (set() if knows else set(mine))
        for row in back:
            self.forget(row["job_id"])

    # -- time ----------------------------------------------------------------------------------

    @precondition(lambda self: self.live)
    @rule(pick=picks)
    def expire(self, pick):
        job_id = sorted(self.live)[pick % len(self.live)]
        self.queue.expire({"id": job_id})

    @rule()
    def recover(self):
        queue = self.queue
        expired = {
            row["job_id"]
            for row in queue.rows("select job_id from persona.job_leases where expires_at < now()")
        }
        assert {row["id"] for row in queue.call("recover_hung_jobs")} == expired
        for job_id in expired:
            self.forget(job_id)

    @precondition(lambda self: self.live)
    @rule(pick=picks)
    def lose_and_claim_again(self, pick):
        """The same runner may get it again: then only the lease number tells the two apart."""
        job_id = sorted(self.live)[pick % len(self.live)]
        runner, lease = self.live[job_id]
        self.queue.expire({"id": job_id})
        self.recover()
        self.nothing_illegal_happened()
        self.take(self.runners.index(runner), 4)
        queue, stale = self.queue, {"id": job_id, "lease": lease}
        before = queue.job(stale)
        assert queue.report(runner, stale)["status"] == "lost"
        assert queue.beat(runner, stale) == ["lost"]
        assert queue.job(stale) == before

    @rule()
    def come_due(self):
        self.queue.run(
            "update persona.jobs set run_at = now() where status = 'pending' and run_at > now()"
        )

    def settle_expired(self, queue):
        """Drop from the model what a cancel or hold ended at once: leases that had run out."""
        left = {row["job_id"] for row in queue.rows("select job_id from persona.job_leases")}
        for job_id in set(self.live) - left:
            assert queue.value("select status from persona.jobs where id = %s", job_id) in (
                "cancelled", "held")  # fmt: skip
            self.forget(job_id)

    # -- what must always hold -----------------------------------------------------------------

    @invariant()
    def holds_together(self):
        queue = self.queue
        assert queue.inconsistencies() == []
        leases = queue.rows(
            "select job_id, runner_id, lease, agent, lock_key from persona.job_leases"
        )
        assert {r["job_id"]: (r["runner_id"], r["lease"]) for r in leases} == self.live
        locked = [r["lock_key"] for r in leases if r["lock_key"]]
        assert len(locked) == len(set(locked))
        assert sum(r["agent"] == "b" for r in leases) <= 2
        attempts = queue.row("select count(*) as n, count(distinct (job_id, lease)) as d"
                             " from persona.job_attempts")  # fmt: skip
        assert attempts == {"n": self.ended, "d": self.ended}
        booked = queue.value("select count(*) from persona.cost_ledger where kind = 'booked'")
        assert booked <= self.ended

    @invariant()
    def nothing_illegal_happened(self):
        queue = self.queue
        rows = {row["id"]: row for row in queue.rows("select * from persona.jobs")}
        assert set(rows) == {job["id"] for job in self.jobs}
        for job_id, row in rows.items():
            old = self.seen.get(job_id)
            if old is None:
                continue
            assert row["lease"] >= old["lease"]
            assert row["updated_at"] >= old["updated_at"]
            if row == old:
                continue
            assert row["updated_at"] > old["updated_at"]
            if old["status"] in FINISHED and job_id not in self.retried:
                assert {c: row[c] for c in OUTCOME_COLUMNS} == {c: old[c] for c in OUTCOME_COLUMNS}
            elif row["status"] != old["status"]:
                assert (old["status"], row["status"]) in ALLOWED
        self.seen = rows
        self.retried.clear()
        summary = queue.one("job_summary")
        by_status = queue.rows("select status, count(*) as n from persona.jobs group by 1")
        assert sum(row["n"] for row in by_status) == len(self.jobs)
        assert all(summary[row["status"]] == row["n"] for row in by_status)

    def teardown(self):
        """Let everything go: whatever waited for something must end up done."""
        queue = self.queue
        for name in "ab":
            queue.call("set_agent_active", name=name, active=True)
        for row in queue.rows("select id from persona.jobs where status = 'held'"):
            queue.act("release_job", row)
        for _ in range(4 * len(self.jobs) + 4):
            for runner, run in [(r, n) for r, n in self.runs if self.holds(r, n)]:
                queue.report(runner, run)
                del self.live[run["id"]]
            self.come_due()
            for runner in self.runners:
                for run in queue.claim(runner, 3):
                    self.live[run["id"]] = (runner, run["lease"])
                    self.runs.append((runner, run))
            if not self.live:
                break
        left = queue.rows("select id, status, status_reason from persona.jobs"
                          " where status not in ('completed', 'failed', 'cancelled')")  # fmt: skip
        assert left == []
        assert queue.inconsistencies() == []


@pytest.mark.timeout(120 + 20 * HISTORIES)
def test_random_histories(connect):
    class Here(Histories):
        sessions = (Queue(connect("one")), Queue(connect("two")))

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # Making a failing history shorter takes minutes: only where somebody looks for it.
            phases=[Phase.generate, *([Phase.shrink] if HISTORIES > 100 else [])],
        ),
    )
