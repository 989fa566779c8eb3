"""The feed of events: one order, a cursor that resumes, nothing skipped and nothing twice."""

from __future__ import annotations

from functools import partial

import pgtest
import psycopg
import pytest
from psycopg import conninfo
from sqltest import Queue, refused


def feed(queue, after=None, **options):
    """What the feed tells once nothing that is under way on this server holds it back."""
    since = queue.value("select pg_current_xact_id()::text::bigint")

    def settled():
        # In one snapshot: a stranger who ends while we look for his database counts as ours.
        with queue.conn.transaction():
            queue.run("set transaction isolation level repeatable read")
            if queue.value("select persona._feed_horizon()") > since:
                return [queue.call("list_events", after=after, **options)]
        return None

    [events] = pgtest.eventually(settled, 60)
    return events


def told(events):
    return [(event["event_type"], event["job_id"]) for event in events]


def test_the_cursor_never_skips_an_event_that_commits_late(queue, another):
    early, late = another("early"), another("late")
    begin = queue.value("select persona.event_cursor()")
    late.run("begin")
    first = late.create()
    second = early.create()
    assert second["seq"] > first["seq"]

    # What has committed waits for what is older and has not: nobody can go past it.
    assert queue.call("list_events", after=begin) == []
    late.run("commit")
    assert told(feed(queue, begin)) == [("job.created", first["id"]), ("job.created", second["id"])]


def test_a_long_transaction_in_another_database_does_not_hold_the_feed_back(queue, databases):
    begin = queue.value("select persona.event_cursor()")
    with psycopg.connect(databases.dsn("postgres", superuser=True)) as stranger:
        [held] = stranger.execute("select pg_current_xact_id()::text::bigint").fetchone()
        made = queue.create()
        assert queue.value("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint") <= held
        assert told(feed(queue, begin)) == [("job.created", made["id"])]
        assert int(queue.value("select persona.event_cursor()")) > held


def test_a_prepared_transaction_holds_the_feed_of_its_own_database_back(private_server):
    server = private_server({"max_prepared_transactions": "5"})
    other = conninfo.make_conninfo(server.dsn, dbname="postgres")
    connect = partial(psycopg.connect, autocommit=True)
    with connect(server.dsn) as ours, connect(server.dsn) as second, connect(other) as stranger:
        queue = Queue(ours)
        queue.agent()
        for one, gid in ((stranger, "elsewhere"), (second, "here")):
            one.execute("begin")
            one.execute("select pg_current_xact_id()")
            one.execute(f"prepare transaction '{gid}'")
        here = queue.value(
            "select transaction::text::bigint from pg_prepared_xacts where gid = 'here'"
        )
        made = queue.create()
        assert queue.value("select persona._feed_horizon()") == here
        second.execute("commit prepared 'here'")
        assert told(queue.call("list_events")) == [("job.created", made["id"])]
        stranger.execute("rollback prepared 'elsewhere'")


def test_a_transaction_is_not_told_of_what_it_has_not_committed(queue):
    """Else its cursor would leave out what the same transaction does next."""
    with queue.conn.transaction():
        queue.create()
        assert queue.call("list_events") == []
    assert len(feed(queue)) == 1


def test_a_life_is_told_in_order_and_page_by_page_once(queue, runner):
    job = queue.create(max_attempts=2)
    [run] = queue.claim(runner)
    queue.report(runner, run, "failed")
    queue.make_due(job)
    [run] = queue.claim(runner)
    queue.report(runner, run)
    stopped = queue.create()
    queue.run("select persona.cancel_job(%s)", str(stopped["id"]))
    queue.run("select persona.publish_event('note.saved')")
    plain = {"job_type": "research", "agent": "a", "payload": {"question": "x"}}
    many = queue.rows("select * from persona.create_jobs(%s)", [plain] * 3)

    whole = feed(queue, max_rows=1000)
    assert [event["event_type"] for event in whole[:8]] == [
        "job.created", "job.started", "job.failed", "job.started", "job.completed",
        "job.created", "job.cancelled", "note.saved",
    ]  # fmt: skip
    assert [event["job_id"] for event in whole[8:]] == [one["create_jobs"] for one in many]

    pages, cursor = [], None
    while page := feed(queue, cursor, max_rows=1):
        [event] = page
        pages.append(event)
        cursor = event["next_cursor"]
    assert pages == whole


def test_a_start_keeps_its_place_when_the_execution_ends(queue, runner):
    queue.start(runner)
    before = feed(queue)
    [run] = queue.rows("select job_id as id, lease from persona.job_leases")
    queue.report(runner, run)
    after = feed(queue)
    assert [e["next_cursor"] for e in after[:2]] == [e["next_cursor"] for e in before]
    assert told(feed(queue, before[-1]["next_cursor"])) == [("job.completed", run["id"])]


def test_an_end_that_is_taken_back_leaves_the_feed(queue):
    job = queue.create()
    queue.run("select persona.cancel_job(%s)", str(job["id"]))
    assert told(feed(queue))[-1] == ("job.cancelled", job["id"])
    queue.run("select persona.retry_job(%s)", str(job["id"]))
    assert told(feed(queue)) == [("job.created", job["id"])]


def test_events_are_chosen_by_job_and_by_type(queue, runner):
    run = queue.start(runner)
    queue.create()
    assert {e["job_id"] for e in feed(queue, ref=str(run["id"]))} == {run["id"]}
    assert len(feed(queue, ref=str(run["id"]))) == 2
    assert told(feed(queue, of_type="job.started")) == [("job.started", run["id"])]


def test_what_was_stored_before_events_had_a_place_comes_first(queue, runner):
    old = queue.create()
    queue.run("update persona.jobs set created_xid = 0 where id = %s", old["id"])
    queue.run("update persona.activity_cursor set jobs = jobs + 1")  # as the upgrade has done
    new = queue.create()
    assert told(feed(queue)) == [("job.created", old["id"]), ("job.created", new["id"])]


@pytest.mark.parametrize("cursor", ["x", "1.2", "-1", "999999999999999999", "1; drop table jobs"])
def test_a_cursor_that_is_none_is_refused(queue, cursor):
    with refused("PJ422", "after"):
        feed(queue, cursor)


def test_rpc_events_resumes_where_it_is_told(queue):
    start = queue.value("select persona.rpc('events') #>> '{data,cursor}'")
    made = queue.create()
    feed(queue)
    answer = queue.value(
        "select persona.rpc('events', jsonb_build_object('after', %s::text)) -> 'data'", start
    )
    assert [event["jobId"] for event in answer["events"]] == [str(made["id"])]
    again = queue.value(
        "select persona.rpc('events', jsonb_build_object('after', %s::text)) -> 'data'",
        answer["cursor"],
    )
    assert again == {"events": [], "cursor": answer["cursor"]}
