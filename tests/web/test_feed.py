"""Viewers see what changes, all from one reader, and miss nothing where a connection broke."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from psycopg.types.json import Jsonb

from persona_pg.web import feed
from persona_pg.web.sources import Sources


def watchers(conn):
    return conn.execute("select count(*) from persona.watchers").fetchone()[0]


def test_a_change_reaches_every_viewer_at_once(browser, stream, queue, eventually, conn):
    first, second = (stream(browser, "/jobs") for _ in range(2))
    for one in (first, second):
        one.next("page")
    eventually(lambda: watchers(conn) == 1)
    started = time.monotonic()
    job = queue.create_job("t", {"prompt": "hello"}, agent="a")
    for one in (first, second):
        html = ""
        while job.short_id not in html:
            _, (_, html) = one.next("page")
    # Well before anybody would look without having been told.
    assert time.monotonic() - started < 8
    _, [event] = first.next("happened")
    assert (event["type"], event["job"]) == ("job.created", str(job.id))
    first.close()
    second.close()
    # Nobody looks, and nothing listens.
    eventually(lambda: watchers(conn) == 0)


def test_who_comes_back_is_told_what_happened_meanwhile(browser, stream, queue):
    before = stream(browser, "/")
    before.next("page")  # from here on it is told
    queue.create_job("t", agent="a")
    before.next("happened")
    place = before.last_id
    before.close()
    missed = queue.create_job("t", agent="a")
    after = stream(browser, "/", headers={"last-event-id": place})
    _, events = after.next("happened")
    assert [event["job"] for event in events] == [str(missed.id)]
    # Once: neither what is told to those who come back nor what is told to all repeats the other.
    last = queue.create_job("t", agent="a")
    _, events = after.next("happened")
    assert [event["job"] for event in events] == [str(last.id)]
    wrong = stream(browser, "/", headers={"last-event-id": "x;y"})
    wrong.next("page")


def test_who_comes_while_listening_is_being_ended_is_told(dsn, monkeypatch):
    """As one does who goes from page to page: for a moment nobody looks."""
    ending, may_end = threading.Event(), threading.Event()

    class SlowEar(feed.Ear):
        def close(self):
            ending.set()
            assert may_end.wait(60)
            super().close()

    async def page_of(viewer):
        async with asyncio.timeout(60):
            return await anext(m async for m in viewer.messages() if "event: page" in m)

    async def scene():
        sources = Sources(dsn)
        served = feed.Feed(sources, lambda source, url: (f"page {url}", None))
        first = served.join("/", seen="", place=None)
        assert "page /" in await page_of(first)
        served.leave(first)
        assert await asyncio.to_thread(ending.wait, 60)
        second = served.join("/jobs", seen="", place=None)
        may_end.set()
        assert "page /jobs" in await page_of(second)
        await served.close()
        sources.close()

    monkeypatch.setattr(feed, "Ear", SlowEar)
    asyncio.run(scene())


def test_what_another_transaction_holds_back_is_told_when_that_has_ended(
    browser, stream, queue, connect
):
    one = stream(browser, "/")
    one.next("page")
    with connect("long").transaction() as long:
        long.connection.execute("select pg_current_xact_id()")
        job = queue.create_job("t", agent="a")
        # The page itself does not wait.
        one.next("page")
    _, [event] = one.next("happened")
    assert event["job"] == str(job.id)


def test_log_lines_arrive_once_and_in_order_also_over_a_break(browser, stream, queue, conn):
    job = queue.create_job("t", agent="a")
    runner = conn.execute(
        "select r.id from persona.register_runner(name => 'r', hostname => 'h', pid => 1) as r"
    ).fetchone()[0]
    lease = conn.execute("select lease from persona.claim_job(%s)", (runner,)).fetchone()[0]

    def log(*numbers):
        rows = [
            {"job_id": str(job.id), "lease": lease, "seq": n, "message": f"line {n}."}
            for n in numbers
        ]
        conn.execute("select persona.append_logs(%s, %s)", (runner, Jsonb(rows)))

    def until(one, text):
        shown = ""
        while text not in shown:
            shown += one.next("log")[1]
        return shown

    log(1, 2)
    one = stream(browser, f"/jobs/{job.id}", params={"place": f";{lease}.1"})
    assert "line 1." not in until(one, "line 2.")
    log(3)
    until(one, "line 3.")
    place = one.last_id
    one.close()
    log(4, 5)
    again = stream(browser, f"/jobs/{job.id}", headers={"last-event-id": place})
    shown = until(again, "line 5.")
    log(*range(6, 2006))
    shown += until(again, "line 2005.")
    assert [f"line {n}." in shown for n in (3, 4, 2005)] == [False, True, True]
    assert shown.count('<div class="line') == 2002


def test_the_stream_goes_on_after_a_restart_of_the_database(serve, stream, private_server):
    from persona_pg.queue import Queue

    server = private_server()
    browser = serve(env={"PERSONA_DATABASE_URL": server.dsn}).browser()
    one = stream(browser, "/jobs")
    one.next("page")
    with Queue.connect(server.dsn) as queue:
        queue.register_agent("a", ["true"])
        queue.create_job("t", agent="a")
        one.next("happened")
        server.server.control("restart", "-m", "immediate", "-w")
        job = queue.create_job("t", agent="a")
        html = ""
        while job.short_id not in html:
            _, (_, html) = one.next("page")
        # The events of the time in between, too.
        events = []
        while str(job.id) not in [event["job"] for event in events]:
            events += one.next("happened")[1]


def test_a_hundred_viewers_cost_no_more_than_one(browser, stream, queue, conn, eventually):
    """Counted at the database: rows read of a view's function by calls, not by viewers."""
    import httpx

    def transactions():
        conn.execute("select pg_stat_clear_snapshot()")
        return conn.execute(
            "select xact_commit from pg_stat_database where datname = current_database()"
        ).fetchone()[0]

    limits = httpx.Limits(max_connections=200)
    with httpx.Client(
        base_url=browser.base_url, cookies=browser.cookies, limits=limits, timeout=20
    ) as many:
        streams = [stream(many, "/jobs") for _ in range(100)]
        for one in streams:
            one.next("page")
        before = transactions()
        job = queue.create_job("t", agent="a")
        for one in streams:
            html = ""
            while job.short_id not in html:
                _, (_, html) = one.next("page")
        # A few rounds, each with some ten reads: far from a hundred times that.
        assert transactions() - before < 400


@pytest.mark.parametrize("page", ["/nothing", "http://evil.example/", "/jobs/../../etc"])
def test_there_is_no_stream_of_what_is_no_page(browser, page):
    assert browser.get("/stream", params={"page": page}).status_code == 404


def test_whoever_only_asks_whether_there_is_a_stream_can_go_on_asking(browser):
    """A script does, when its stream was refused; over the same connection it loads the next page."""
    assert browser.head("/stream").status_code == 200
    assert browser.get("/healthz").text == "ok\n"
    with pytest.raises(KeyError):
        browser.head("/stream").headers["transfer-encoding"]
