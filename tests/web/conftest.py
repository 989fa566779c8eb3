"""A real dashboard on a real socket, and a browser's session with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from psycopg.types.json import Jsonb

from persona_pg.database import Database
from persona_pg.queue import Queue

PERSONA = shutil.which("persona", path=str(Path(sys.executable).parent)) or "persona"


class Served:
    """A running `persona dashboard`: the process, its address, its token."""

    def __init__(self, env, *arguments, errors):
        self.errors = errors
        self._stream = errors.open("wb")
        self._browsers = []
        self.process = subprocess.Popen(
            [PERSONA, "dashboard", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stream,
            text=True,
        )
        self.link = self.process.stdout.readline().strip()
        assert self.link, errors.read_text()
        self.url, _, query = self.link.partition("/login")
        self.token = query.removeprefix("?token=")

    def browser(self, **options):
        """Sign in; returns a client that keeps the cookie."""
        client = Browser(base_url=self.url, timeout=20, **options)
        self._browsers.append(client)
        answer = client.get("/login", params={"token": self.token})
        assert answer.status_code == 200, answer.text
        return client

    def stop(self):
        for browser in self._browsers:
            browser.close()
        self._browsers.clear()
        self.process.terminate()
        self.process.communicate(timeout=15)
        self._stream.close()


class Browser(httpx.Client):
    """What a browser does: keeps cookies, and sends the token of the page with its forms."""

    csrf = ""

    def page(self, path, status=200):
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        if found := re.search(r'<meta name="csrf" content="(\w*)"', answer.text):
            self.csrf = found[1]
        return answer.text

    def act(self, action, *, script=True, **fields):
        """Press a button as the page's script does, or as a browser without one does."""
        if not self.csrf:
            self.page("/jobs/new")
        if script:
            headers = {"accept": "application/json", "x-csrf-token": self.csrf}
            return self.post(f"/do/{action}", data=fields, headers=headers)
        return self.post(f"/do/{action}", data=fields | {"csrf": self.csrf})


@pytest.fixture
def serve(persona_env, tmp_path):
    """Start dashboards: (arguments, env=) -> Served."""
    running = []

    def start(*arguments, env=None, port="0"):
        errors = tmp_path / f"dashboard-{len(running)}.err"
        running.append(Served(persona_env | (env or {}), "--port", port, *arguments, errors=errors))
        return running[-1]

    yield start

    for one in running:
        one.stop()


@pytest.fixture
def browser(serve):
    """A session with a dashboard of the test's database, as the schema's owner."""
    return serve().browser()


@pytest.fixture
def queue(dsn):
    with Queue(Database(dsn, application_name="test")) as found:
        found.register_agent("a", ["true"], description="for tests")
        yield found


class Stream:
    """An open event stream: the messages of each kind so far."""

    def __init__(self, client, page, **options):
        self._context = client.stream(
            "GET", "/stream", params={"page": page} | options.pop("params", {}), **options
        )
        self.response = self._context.__enter__()
        assert self.response.status_code == 200, self.response.read()
        self._lines = self.response.iter_lines()
        self.last_id = ""

    def next(self, *kinds):
        """Return the data of the next message of one of these kinds."""
        kind = ""
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data" and kind in kinds:
                return kind, httpx.Response(200, text=value).json()
        raise AssertionError("the stream has ended")

    def close(self):
        self._context.__exit__(None, None, None)


@pytest.fixture
def stream():
    """Open streams: (client, page) -> Stream."""
    opened = []

    def start(client, page="/", **options):
        opened.append(Stream(client, page, **options))
        return opened[-1]

    yield start

    for one in opened:
        one.close()


@pytest.fixture
def play(conn):
    """Claim the next job and report about it."""
    runner = conn.execute(
        "select r.id from persona.register_runner(name => 'r', hostname => 'h', pid => 1,"
        " capacity => 3) as r"
    ).fetchone()[0]

    def run(outcome=None, lines=(), **report):
        job_id, lease = conn.execute(
            "select id, lease from persona.claim_job(%s)", (runner,)
        ).fetchone()
        one = {"job_id": str(job_id), "lease": lease}
        rows = [one | {"seq": n, "message": text} for n, text in enumerate(lines, 1)]
        conn.execute("select persona.append_logs(%s, %s)", (runner, Jsonb(rows)))
        if outcome:
            item = Jsonb([one | {"outcome": outcome} | report])
            conn.execute("select persona.complete_jobs(%s, %s)", (runner, item))
        return job_id, lease, runner

    return run


# -- a real browser ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium():
    """Chromium, driven by Playwright: nothing is downloaded, an installed one is used."""
    api = pytest.importorskip("playwright.sync_api", reason="bin/test --browser installs it")
    names = (os.environ.get("PERSONA_TEST_CHROMIUM"), "chromium", "chromium-browser", "chrome")
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium: apt install chromium, or PERSONA_TEST_CHROMIUM=PROGRAM")
    with api.sync_playwright() as playwright:
        options = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """Open signed-in tabs: (served, theme=, width=, scripts=) -> Playwright's page.

    Whatever a page complains of in its console fails the test, unless it says so in complaints.
    """
    opened = []

    def start(served, *, theme="light", width=1440, scripts=True):
        context = chromium.new_context(
            base_url=served.url,
            color_scheme=theme,
            viewport={"width": width, "height": 900},
            java_script_enabled=scripts,
        )
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: page.complaints.append(said.text) if said.type == "error" else None,
        )
        opened.append((context, page))
        page.goto(served.link)
        page.goto("/")
        return page

    yield start

    complaints = [one for _, page in opened for one in page.complaints]
    for context, _ in opened:
        context.close()
    assert complaints == []
