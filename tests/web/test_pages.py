"""Each page says what the views say, its links lead on, and its buttons do what they say."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from pgtest import eventually
from psycopg.types.json import Jsonb

from persona_pg.plans import Plans
from persona_pg.web import ansi, pages, plots
from persona_pg.web.memo import Memo


def ids(html):
    return re.findall(r'<tr id="job-([0-9a-f-]{36})"', html)


def test_every_page_is_there_and_says_where_one_is(browser, queue, play):
    job = queue.create_job("t", {"prompt": "hello"}, agent="a")
    queue.create_job("t", agent="a", parent_job_id=job.id)
    play("completed", ["a line"], cost_usd=0.25, result={"text": "fine"})
    paths = ["/", "/jobs", "/jobs/new", f"/jobs/{job.id}", f"/jobs/{job.id}/log", "/agents",
             "/agents/a", "/schedules", "/costs", "/runners", "/alerts", "/questions", "/plots",
             "/plots?span=1h", "/plots?span=7d"]  # fmt: skip
    for path in paths:
        html = browser.page(path)
        assert "<main" in html, path
        assert html.count("<h1") == 1, path
    assert len(pages.PAGES) == 13
    assert "0.25" in browser.page("/costs")
    assert 'class="tree"' in browser.page(f"/jobs/{job.id}")
    browser.page("/jobs/ffffffff", 404)
    browser.page("/plots?span=2h", 422)
    browser.page("/jobs?status=lost", 422)
    browser.page("/elsewhere", 404)


def test_pages_of_jobs_have_each_job_once_and_keep_their_filter(browser, queue):
    made = {str(queue.create_job("t", {"prompt": f"n {n}"}, agent="a").id) for n in range(115)}
    queue.create_job("other", agent="a")
    found, path = [], "/jobs?type=t&sort=oldest"
    while path:
        html = browser.page(path)
        found += ids(html)
        more = re.search(r'href="([^"]+)" rel="next"', html)
        path = more[1].replace("&amp;", "&") if more else None
        assert path is None or ("type=t" in path and "sort=oldest" in path)
    assert len(found) == 115
    assert set(found) == made
    assert len(ids(browser.page("/jobs?q=n 11"))) == 6
    assert ids(browser.page("/jobs?status=failed")) == []


def test_a_short_id_leads_to_its_job(browser, queue):
    job = queue.create_job("t", agent="a")
    answer = browser.get("/jobs", params={"q": job.short_id})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")


def test_a_job_is_created_once_however_often_its_form_is_sent(browser, queue):
    form = browser.page("/jobs/new")
    fields = {
        "id": re.search(r'name="id" value="([^"]+)"', form)[1],
        "job_type": "t", "agent": "a", "prompt": "say hello", "payload": '{"depth": 2}',
        "priority": "5", "delay": "5m", "tags": "one, two",
    }  # fmt: skip
    first, again = (browser.act("create", **fields).json() for _ in range(2))
    assert first == again
    job = queue.get_job(fields["id"])
    assert (job.payload, job.priority) == ({"depth": 2, "prompt": "say hello"}, 5)
    assert (sorted(job.tags), first["goto"]) == (["one", "two"], f"/jobs/{job.id}")
    assert job.run_at > job.created_at
    without = browser.act("create", script=False, job_type="t", agent="a")
    assert without.status_code == 303
    for wrong, words in (
        ({"payload": "{"}, "no JSON"),
        ({"payload": "[]"}, "JSON object"),
        ({"priority": "high"}, "whole number"),
        ({"delay": "soon"}, "duration"),
        ({"agent": "nobody"}, "nobody"),
        ({"job_type": ""}, "job_type is missing"),
    ):
        answer = browser.act("create", **{"job_type": "t", "agent": "a"} | wrong)
        assert answer.status_code == 422, wrong
        assert words in answer.json()["words"]


def test_every_button_calls_its_function(browser, queue, conn, play):
    def act(action, **fields):
        answer = browser.act(action, **fields).json()
        assert answer["ok"], answer
        return answer["words"]

    job = queue.create_job("t", agent="a")
    ref = {"ref": str(job.id)}

    def status():
        return queue.get_job(job.id).status

    act("hold", reason="wait for me", **ref)
    assert (status(), queue.get_job(job.id).status_reason) == ("held", "wait for me")
    act("release", **ref)
    assert status() == "pending"
    act("cancel", reason="not needed", **ref)
    assert status() == "cancelled"
    refused = browser.act("hold", **ref)
    assert refused.status_code == 409
    assert "is cancelled and cannot be held" in refused.json()["words"]
    act("retry", **ref)
    assert status() == "pending"
    play()
    assert "stopped by its runner" in act("cancel", force="1", **ref)
    assert conn.execute("select stop_force from persona.job_leases").fetchone()[0] is True

    queue.register_agent("careful", ["true"], requires_approval=True)
    held = queue.create_job("t", agent="careful")
    assert held.short_id in browser.page("/questions")
    act("approve", ref=str(held.id))
    assert queue.get_job(held.id).status == "pending"

    queue.close_gate("acme", reason="too much")
    assert "too much" in browser.page("/")
    act("open-gate", provider="acme", account="")
    assert queue.gates()[0].state == "open"

    plans = Plans(queue.database)
    plans.create_schedule(name="nightly", spec="0 3 * * *", job={"job_type": "t", "agent": "a"})
    assert "nightly" in browser.page("/schedules")
    act("pause", name="nightly")
    assert plans.schedule("nightly")["is_paused"]
    act("resume", name="nightly")
    assert not plans.schedule("nightly")["is_paused"]

    act("agent", name="a", active="0")
    assert not queue.get_agent("a").is_active
    act("drain", ref="r")
    assert queue.runners()[0].status == "draining"
    conn.execute("insert into persona.alerts (kind, message) values ('test', 'look here')")
    assert "look here" in browser.page("/alerts")
    act("seen", up_to="")
    assert "look here" not in browser.page("/alerts")
    assert "look here" in browser.page("/alerts?all=1")
    assert browser.act("explode").status_code == 404


def test_a_question_is_answered_on_its_page(browser, queue, play, conn):
    job = queue.create_job("t", agent="a")
    job_id, lease, runner = play()
    asked = Jsonb({"text": "Which one?"})
    conn.execute("select persona.job_call(%s, %s, %s, 'ask', %s)", (runner, job_id, lease, asked))
    item = Jsonb([{"job_id": str(job_id), "lease": lease, "outcome": "held"}])
    conn.execute("select persona.complete_jobs(%s, %s)", (runner, item))
    assert "Which one?" in browser.page("/questions")
    assert "Which one?" in browser.page(f"/jobs/{job.id}")
    assert browser.act("answer", ref=str(job.id), answer=" ").status_code == 422
    done = browser.act("answer", script=False, ref=str(job.id), answer="the second", back="/jobs")
    assert done.status_code == 200
    assert 'href="/jobs"' in done.text
    assert queue.get_job(job.id).payload["answers"][0]["answer"] == "the second"


def test_nobody_is_sent_elsewhere(browser, queue):
    job = queue.create_job("t", agent="a")
    for back in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "\\\\evil"):
        done = browser.act("hold", script=False, ref=str(job.id), back=back)
        assert re.search(r'class="button" href="(/?)"', done.text)[1] == "/", back


def test_the_log_is_searched_paged_and_downloaded_whole(browser, queue, play):
    job = queue.create_job("t", agent="a")
    play("completed", [f"line {n} {'needle' if n % 500 == 0 else ''}" for n in range(1, 1201)])
    first = browser.page(f"/jobs/{job.id}/log")
    assert first.count('<div class="line') == 1000
    after = re.search(r"\?after=(\d+\.\d+)", first)[1]
    assert browser.page(f"/jobs/{job.id}/log?after={after}").count('<div class="line') == 200
    assert browser.page(f"/jobs/{job.id}/log?q=NEEDLE").count('<div class="line') == 2
    assert browser.page(f"/jobs/{job.id}").count('<div class="line') == 500
    assert len(browser.get(f"/jobs/{job.id}/log.txt").text.splitlines()) == 1200


def test_the_database_is_away_is_a_page_that_says_so(serve, private_server):
    server = private_server()
    browser = serve(env={"PERSONA_DATABASE_URL": server.dsn}).browser()
    browser.page("/")
    server.server.control("stop", "-m", "fast", "-w")
    assert "The database is away" in browser.page("/jobs", 503)
    server.server.start()
    eventually(lambda: browser.get("/jobs").status_code == 200, 60)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("\x1b[1;31mred\x1b[0m plain", '<span class="bold f1">red</span> plain'),
        ("\x1b[38;5;196mx\x1b[48;2;0;0;255my", '<span class="f9">x</span><span class="f9 b12">y'),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b[2J\x1b[H\x1b[?25lhidden", "hidden"),
        ("10 %\r50 %\r100 %\r\n", "100 %"),
        ("a\x00b\x08c\u202ed\x9b31m", "abcd"),
        ("\x1b[31", ""),
        ("\x1bPq#0\x1b\\after", "after"),
    ],
)
def test_colours_are_shown_and_nothing_else_is_obeyed(printed, shown):
    html = str(ansi.to_html(printed))
    assert html.startswith(shown), html
    assert "\x1b" not in html


def test_endless_colours_and_lines_end():
    assert len(ansi.to_html("\x1b[" + "1;" * 100_000 + "m" + "x" * 100_000)) < 30_000


def test_a_plot_of_nothing_is_none_and_its_top_is_round():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [{"at": at, "completed": n, "failed": 0} for n in (0, 37)]
    assert plots.bars(rows[:1], ("completed", "failed")).is_empty
    plot = plots.bars(rows, ("completed", "failed"))
    assert plot.top == 40
    [bar] = plot.shapes
    assert (bar["h"], bar["y"]) == (92.5, 7.5)


def test_what_takes_long_to_read_is_kept_for_twenty_times_as_long():
    times = iter([0, 1, 20.9, 21, 22, 50, 50, 50.0])
    reads = iter("abc")
    memo = Memo(clock=lambda: next(times))
    assert [memo.get("x", lambda: next(reads)) for _ in range(3)] == ["a", "a", "b"]
    assert memo.get("x", lambda: next(reads)) == "c"
    # What took no time is read again.
    with pytest.raises(StopIteration):
        memo.get("x", lambda: next(reads))
