"""Every line that explain_job can give, each by a situation, and each with its row in the docs."""

from __future__ import annotations

import re

import pytest
from pgtest import ROOT

SOURCE = (ROOT / "db/functions/client/explain_job.sql").read_text()
# What the source calls lines: texts of some length, that are no part of a longer one.
FRAGMENTS = {"no reason given", "no line", "its runner", "an outside driver", " on ", "1 minute"}
SITUATIONS = {}


def gives(line):
    """Register a situation by the line, as the source writes it, that it leads to."""

    def register(situation):
        SITUATIONS[line] = situation
        return situation

    return register


def lines_of_the_source():
    code = re.sub(r"^\s*--.*$", "", SOURCE.partition("comment on function")[0], flags=re.MULTILINE)
    texts = {text.replace("''", "'") for text in re.findall(r"'((?:[^']|'')*)'", code)}
    return {text for text in texts if " " in text.strip() and text not in FRAGMENTS} - {
        text for text in texts if re.fullmatch(r"[%s\s();,:.-]*|\s*\(account ", text)
    }


def pattern(line):
    return re.compile(".*".join(map(re.escape, line.split("%s"))), re.DOTALL)


@gives("completed %s, attempt %s")
def completed(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run)
    return run


@gives("failed after %s of %s attempts: %s")
def failed(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "failed", failure_kind="not_found", error="no such file")
    return run


@gives("cancelled %s: %s")
def cancelled(queue, runner):
    return queue.act("cancel_job", queue.create(), reason="enough")


@gives("waits for an answer: %s; persona answer %s TEXT")
def asked(queue, runner):
    run = queue.start(runner)
    queue.call("job_call", runner_id=runner, job_id=run["id"], lease=run["lease"],
               command="ask", body={"text": "Which one?"})  # fmt: skip
    queue.report(runner, run, "cancelled")
    return run


@gives("needs approval; persona release %s approves it, persona kill %s does not")
def unapproved(queue, runner):
    queue.agent(requires_approval=True)
    return queue.create()


@gives("held: %s; persona release %s lets it run")
def held(queue, runner):
    return queue.act("hold_job", queue.create(), reason="not today")


@gives("waits for %s job(s): %s%s")
def blocked(queue, runner):
    return queue.create(depends_on=[queue.create()["id"]])


@gives("hung: no heartbeat from %s since %s; it is recovered by the next tick of any runner")
def hung(queue, runner):
    run = queue.start(runner)
    queue.expire(run)
    return run


def delegated(queue, runner):
    queue.agent(may_delegate_to=["a"])
    run = queue.start(runner)
    named = {"runner_id": runner, "job_id": run["id"], "lease": run["lease"]}
    queue.call(
        "job_call", **named, command="delegate", body={"agent": "a", "type": "t", "text": "x"}
    )
    queue.call("job_call", **named, command="wait", body={})
    return run


@gives("running; has lent its slot and waits for %s job(s) that it delegated: %s")
def waiting(queue, runner):
    return delegated(queue, runner)


@gives("running; what it waited for has ended, it goes on when it has its slot again")
def waited(queue, runner):
    run = delegated(queue, runner)
    [child] = queue.claim(runner)
    queue.report(runner, child)
    return run


@gives("running on %s, attempt %s of %s, last heartbeat %s s ago%s")
def running(queue, runner):
    return queue.start(runner)


@gives(
    "pending, but without an entry in the queue: an admin repairs that with select"
    " persona.rebuild_queue()"
)
def damaged(queue, runner):
    job = queue.create()
    queue.run("delete from persona.job_queue")
    yield job
    queue.one("rebuild_queue")


@gives("waits for its driver: it was created through the bridge by the program that runs it")
def of_the_bridge(queue, runner):
    made = queue.value(
        "select persona.bridge('create_job', array[%s])",
        '{"type": "agent_action", "payload": {"action": "x"}, "agent": "researcher"}',
    )
    return {"id": made["id"]}


@gives("waits: agent %s is not registered")
def of_nobody(queue, runner):
    queue.agent("gone")
    job = queue.create(agent="gone")
    queue.run("delete from persona.agents where name = 'gone'")
    return job


@gives("waits for its driver: agent %s is external, no runner claims its jobs")
def external(queue, runner):
    queue.agent("outside", is_external=True)
    return queue.create(agent="outside")


@gives("waits until %s%s")
def delayed(queue, runner):
    return queue.create(run_at="2100-01-01 00:00+00")


@gives("waits: agent %s is disabled; persona agents enable %s")
def disabled(queue, runner):
    queue.one("set_agent_active", name="a", active=False)
    return queue.create()


@gives(
    "waits until %s: after a failover or a restore no job is handed out for one lease, because what ran before"
    " may still run"
)
def after_a_failover(queue, runner):
    job = queue.create()
    queue.run("update persona.server_timeline set timeline = '000000AA'")
    queue.claim(runner)
    return job


def refused(queue, runner, kind="rate_limited"):
    queue.agent(provider="p", max_attempts=1)
    jobs = [queue.create() for _ in range(3)]
    outcome = "rate_limited" if kind == "rate_limited" else "failed"
    queue.report(runner, *queue.claim(runner), outcome, failure_kind=kind, error="429")
    return jobs[-1]


@gives("waits: provider %s%s %s")
@gives("is closed until %s: %s")
def limited(queue, runner):
    return refused(queue, runner)


@gives("is closed until somebody opens it (persona gate open %s): %s")
def unauthorized(queue, runner):
    return refused(queue, runner, "auth")


@gives("is tried by the next job that starts; the others wait for how it ends")
def to_be_tried(queue, runner):
    job = refused(queue, runner)
    queue.run("update persona.gates set reopens_at = now()")
    return job


@gives("is tried by job %s, because it was closed: %s")
def being_tried(queue, runner):
    job = to_be_tried(queue, runner)
    queue.claim(runner)
    return job


@gives('waits: job %s is running under the same lock key "%s"')
def locked(queue, runner):
    queue.start(runner, lock_key="k")
    return queue.create(lock_key="k")


@gives("waits: job %s is using the same conversation %s")
def in_conversation(queue, runner):
    jobs = [queue.create(), queue.create()]
    queue.run("update persona.jobs set session_id = 's'")
    queue.claim(runner)
    return jobs[1]


@gives("waits: the limit %s is reached: %s may run at once")
def at_the_limit(queue, runner):
    queue.one("set_limit", name="total", max_running=1)
    queue.start(runner)
    return queue.create()


def with_a_price(queue, **budget):
    queue.agent(costs_money=True, max_cost_usd=0.3)
    queue.one("set_budget", **{"name": "all", "limit_usd": 0.5} | budget)


@gives("waits: budget %s")
def reserved_by_others(queue, runner):
    with_a_price(queue)
    queue.start(runner)
    job = queue.create()
    queue.claim(runner)
    return job


@gives("held: %s; %s%s")
@gives("persona budget set %s USD raises it")
@gives(", or it goes on %s")
def over_budget(queue, runner):
    with_a_price(queue, period="day")
    queue.report(runner, queue.start(runner), cost_usd=0.3)
    job = queue.create()
    queue.claim(runner)
    return job


@gives("persona release %s --max-cost USD gives it more")
def over_its_own_budget(queue, runner):
    queue.agent(costs_money=True, max_cost_usd=0.3)
    run = queue.start(runner, max_cost_usd=0.2, max_attempts=2)
    queue.report(runner, run, "failed", failure_kind="crashed", cost_usd=0.2)
    queue.make_due(run)
    queue.claim(runner)
    return run


@gives("held: %s; persona release %s --max-cost USD lets it go on with more money")
def stopped_by_its_program(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run, "failed", failure_kind="budget", error="spent")
    return run


@gives("waits: agent %s runs %s of at most %s jobs")
def at_the_agents_limit(queue, runner):
    queue.agent(max_concurrent=1)
    queue.start(runner)
    return queue.create()


@gives("waits: no live runner serves agent %s; start one with persona-worker")
def alone(queue, runner):
    queue.call("deregister_runner", runner_id=runner)
    return queue.create()


@gives("ready: %s job(s) of agent %s go first")
def ready(queue, runner):
    queue.create()
    return queue.create()


def documented():
    """Return the first cells of the table in the docs, with their capitals for anything."""
    section = (ROOT / "docs/troubleshooting.md").read_text().partition("## A job does not run")[2]
    cells = re.findall(r"^\| `([^`]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    return [re.compile(re.sub(r"\\\.\\\.\\\.|\b[A-Z]+\b", ".*", re.escape(one))) for one in cells]


def test_every_line_of_the_source_has_its_situation():
    assert lines_of_the_source() == set(SITUATIONS)


@pytest.mark.parametrize("line", SITUATIONS)
def test_a_situation_has_its_line_and_the_line_its_row_in_the_docs(queue, runner, line):
    made = SITUATIONS[line](queue, runner)
    is_stepwise = not isinstance(made, dict)
    job = next(made) if is_stepwise else made

    said = queue.explain(job)

    assert pattern(line).search(said), said
    assert "\n" not in said
    assert [row.pattern for row in documented() if row.match(said)], said
    if is_stepwise:
        next(made, None)
