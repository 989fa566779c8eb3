"""Who watches is told of changes; while nobody does, no commit pays for a notification."""

from __future__ import annotations

import uuid

import pgtest
import pytest
from sqltest import refused


@pytest.fixture
def watcher(another):
    """A session that listens to both channels and registers for jobs, or for everything."""

    def make(*jobs, logs=False, seconds=60):
        found = another("watcher")
        found.listen("persona_changes")
        found.listen("persona_logs")
        ids = [job["id"] for job in jobs] or None
        found.run("select persona.watch(%s, %s::uuid[], %s, %s)", uuid.uuid4(), ids, logs, seconds)
        return found

    return make


def settled(session):
    horizon = session.row("select * from persona.idle_horizon(null)")
    return lambda: session.value("select persona.is_settled(%s)", horizon["horizon"])


def a_life(queue, runner):
    """Everything that happens to jobs, one after the other."""
    job = queue.create()
    yield "created"
    [run] = queue.claim(runner)
    yield "claimed"
    queue.beat(runner, run, progress=50)
    yield "made progress"
    queue.report(runner, run, "failed", failure_kind="not_found")
    yield "failed"
    queue.run("select persona.retry_job(%s)", str(job["id"]))
    yield "retried"
    queue.run("select persona.hold_job(%s)", str(job["id"]))
    yield "held"
    queue.run("select persona.release_job(%s)", str(job["id"]))
    yield "released"
    queue.run("select persona.cancel_job(%s)", str(job["id"]))
    yield "cancelled"
    queue.run("insert into persona.gates (provider, state) values ('p', 'closed')")
    yield "a gate closed"
    queue.runner("another")
    yield "a runner came"
    queue.run("select persona.publish_event('note.saved')")
    yield "an event was published"


def test_nothing_is_notified_while_nobody_watches(queue, runner):
    queue.listen("persona_changes")
    assert list(a_life(queue, runner))
    assert queue.heard() == []


def test_who_watches_everything_hears_each_change(queue, runner, watcher):
    session = watcher()
    deaf_to = [what for what in a_life(queue, runner) if set(session.heard()) != {"*"}]
    assert deaf_to == []


def test_who_watches_a_job_hears_of_that_job_only(queue, runner, watcher):
    mine = queue.create(priority=2)
    session = watcher(mine)
    other = queue.create(priority=1)
    [run] = queue.claim(runner)
    assert run["id"] == mine["id"]
    assert session.heard() == [str(mine["id"])]
    queue.claim(runner)
    queue.run("select persona.cancel_job(%s)", str(other["id"]))
    assert session.heard() == []
    queue.report(runner, run)
    assert session.heard() == [str(mine["id"])]


def test_log_lines_are_told_to_those_who_follow_that_log(queue, runner, watcher):
    run = queue.start(runner)
    other = queue.start(runner)
    session = watcher(run)

    def say(execution, seq):
        line = {
            "job_id": str(execution["id"]),
            "lease": execution["lease"],
            "seq": seq,
            "message": "x",
        }
        queue.call("append_logs", runner_id=runner, lines=[line])

    say(run, 1)
    assert session.heard() == []
    follower = watcher(run, logs=True)
    say(other, 1)
    assert follower.heard() == []
    say(run, 2)
    assert follower.heard() == [str(run["id"])]


def test_a_watcher_that_does_not_come_back_is_forgotten(queue, watcher, another):
    gone = watcher(seconds=1)
    queue.run("update persona.watchers set expires_at = now() - interval '1 s'")
    queue.create()
    assert gone.heard() == []
    another().run("select persona.watch(%s)", uuid.uuid4())
    assert queue.value("select count(*) from persona.watchers") == 1


def test_a_watch_ends_when_it_is_asked_to(queue, another):
    ident = uuid.uuid4()
    queue.run("select persona.watch(%s)", ident)
    assert queue.value("select persona.unwatch(%s)", ident) is True
    assert queue.value("select persona.unwatch(%s)", ident) is False


def test_a_change_that_did_not_see_the_watcher_is_not_settled_until_it_is_visible(
    queue, another, watcher
):
    writer = another("writer")
    writer.run("begin")
    made = writer.create()

    session = watcher()
    is_settled = settled(session)
    assert session.rows("select * from persona.jobs") == []
    assert not is_settled()

    writer.run("commit")
    assert session.heard() == []
    # Others on this server may have transactions open, too.
    pgtest.eventually(is_settled, 60)
    assert [job["id"] for job in session.rows("select id from persona.jobs")] == [made["id"]]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_change_in_another_isolation_is_always_told(queue, another, isolation):
    writer, session = another("writer"), another("watcher")
    writer.run(f"begin isolation level {isolation}")
    writer.value("select count(*) from persona.jobs")
    session.listen("persona_changes")
    session.run("select persona.watch(%s)", uuid.uuid4())
    writer.create()
    writer.run("commit")
    assert session.heard() == ["all"]


@pytest.mark.parametrize(
    "arguments", ["null", "gen_random_uuid(), '{}'", "gen_random_uuid(), null, false, 0"]
)
def test_a_watch_that_makes_no_sense_is_refused(queue, arguments):
    with refused("PJ422"):
        queue.run(f"select persona.watch({arguments})")
