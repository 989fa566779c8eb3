"""The dashboard lets in who has the token, and shows everything as text."""

from __future__ import annotations

import stat
from html.parser import HTMLParser

import httpx
import psutil
import psycopg

from persona_pg.web.actions import ACTIONS


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))


ATTACK = "<script>alert('owned')</script><img src=x onerror=alert(1)>\"'&"


def test_a_stranger_sees_nothing_and_the_link_lets_in(serve):
    served = serve()
    with httpx.Client(base_url=served.url) as stranger:
        for path in ("/", "/jobs", "/jobs/new", "/stream", "/plots", "/nothing", "/login/x"):
            assert stranger.get(path).status_code == 401, path
        assert "Token" in stranger.get("/").text
        assert stranger.post("/do/cancel", data={"ref": "x"}).status_code == 401
        assert stranger.get("/login", params={"token": "wrong"}).status_code == 403
        assert stranger.post("/login", data={"token": "x"}).status_code == 403
        assert stranger.get("/static/style.css").status_code == 200
        assert "set-cookie" not in stranger.get("/").headers

        welcome = stranger.get("/login", params={"token": served.token})
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        # Not a redirect: a strict cookie is not sent with one that began elsewhere.
        assert welcome.status_code == 200
        # Its address has the token: no page that follows is told of it, and no cache keeps it.
        assert welcome.headers["referrer-policy"] == "no-referrer"
        assert welcome.headers["cache-control"] == "no-store"
        assert served.token not in welcome.text
        assert stranger.get("/").status_code == 200

        name, _, value = cookie.partition(";")[0].partition("=")
        for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "9" + value, "", ".."):
            with httpx.Client(base_url=served.url, cookies={name: forged}) as forger:
                assert forger.get("/").status_code == 401, forged


def test_what_changes_something_must_come_from_a_page_of_ours(browser, queue):
    job = queue.create_job("t", agent="a")
    browser.page("/")
    fields = {"ref": str(job.id)}
    good = {"x-csrf-token": browser.csrf}
    assert browser.post("/do/cancel", data=fields).status_code == 403
    assert browser.post("/do/cancel", data=fields | {"csrf": "0" * 64}).status_code == 403
    for header in (
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert browser.post("/do/cancel", data=fields, headers=good | header).status_code == 403
    assert browser.post("/do/cancel", data=fields, headers={"origin": "null"}).status_code == 403
    assert browser.post("/do/cancel", json=fields, headers=good).status_code == 413
    nul = fields | {"reason": "a\0b"}
    assert browser.post("/do/cancel", data=nul, headers=good).status_code == 413
    large = {"ref": "x" * 2_100_000}
    assert browser.post("/do/cancel", data=large, headers=good).status_code == 413
    assert browser.get("/do/cancel", params=fields).status_code == 404
    assert queue.get_job(job.id).status == "pending"
    assert browser.act("cancel", **fields).json()["ok"]
    assert queue.get_job(job.id).status == "cancelled"


def test_a_name_that_others_point_at_us_is_refused(browser):
    assert browser.get("/", headers={"host": "evil.example"}).status_code == 421
    assert browser.get("/", headers={"host": "localhost:1"}).status_code == 200


def test_every_answer_forbids_scripts_and_styles_of_others(browser):
    for path in ("/", "/login", "/static/live.js", "/nothing", "/stream?page=/nothing"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_what_a_job_says_is_text_on_every_page(browser, queue, conn):
    """Its task, tags, file, result, error, log and question, and an agent's description."""
    queue.register_agent("b", ["true", ATTACK], description=ATTACK)
    job = queue.create_job(
        "t", {"prompt": ATTACK, ATTACK: 1}, agent="b", tags=[ATTACK], source_file=ATTACK,
        max_attempts=1, business=ATTACK,
    )  # fmt: skip
    runner = conn.execute(
        "select r.id from persona.register_runner(name => %s, hostname => 'h', pid => 1, capacity"
        " => 1) as r", (f"r{ATTACK}"[:60],)
    ).fetchone()[0]  # fmt: skip
    lease = conn.execute("select lease from persona.claim_job(%s)", (runner,)).fetchone()[0]
    line = {"job_id": str(job.id), "lease": lease, "seq": 1, "stream": "stdout", "level": "info"}
    conn.execute(
        "select persona.append_logs(%s, %s)",
        (runner, psycopg.types.json.Jsonb([line | {"message": f"\x1b[31m{ATTACK}\x1b]0;x\x07"}])),
    )
    item = {"job_id": str(job.id), "lease": lease, "outcome": "failed", "error": ATTACK}
    conn.execute(
        "select persona.complete_jobs(%s, %s)",
        (runner, psycopg.types.json.Jsonb([item | {"result": {"text": ATTACK}}])),
    )
    asks, goes_on = (queue.create_job("t", {"prompt": ATTACK}, agent="b") for _ in range(2))
    for one in (asks, goes_on):
        lease = conn.execute("select lease from persona.claim_job(%s)", (runner,)).fetchone()[0]
        beat = {"job_id": str(one.id), "lease": lease, "progress": 50, "progress_text": ATTACK}
        conn.execute(
            "select persona.heartbeats(%s, %s)",
            (runner, psycopg.types.json.Jsonb([beat | {"argv": [ATTACK]}])),
        )
        if one is asks:
            conn.execute(
                "select persona.job_call(%s, %s, %s, 'ask', %s)",
                (runner, one.id, lease, psycopg.types.json.Jsonb({"text": ATTACK})),
            )
            item = {"job_id": str(one.id), "lease": lease, "outcome": "held"}
            conn.execute(
                "select persona.complete_jobs(%s, %s)", (runner, psycopg.types.json.Jsonb([item]))
            )
    queue.close_gate(ATTACK[:40], reason=ATTACK)
    pages = [
        f"/jobs/{asks.id}", f"/jobs/{goes_on.id}",
        "/", "/jobs", f"/jobs?q={ATTACK}", f"/jobs/{job.id}", f"/jobs/{job.id}/log?q=script",
        "/agents", "/agents/b", "/alerts", "/runners", "/plots", "/questions", "/costs",
        f"/jobs/new?prompt={ATTACK}", "/schedules",
    ]  # fmt: skip
    for path in pages:
        html = browser.page(path)
        found = Tags(html)
        scripts = [dict(attributes)["src"] for tag, attributes in found.tags if tag == "script"]
        assert len(scripts) == 2, path
        assert all(src.startswith("/static/") for src in scripts), path
        assert "img" not in {tag for tag, _ in found.tags}, path
        names = {name for _, attributes in found.tags for name, _ in attributes}
        assert not [name for name in names if name == "style" or name.startswith("on")], path
        assert "\x1b" not in html, path
    assert "&lt;script&gt;" in browser.page("/questions")
    assert browser.page(f"/jobs/{goes_on.id}").count("&lt;script&gt;") >= 3
    shown = browser.page(f"/jobs/{job.id}")
    assert '<span class="f1">&lt;script&gt;' in shown
    downloaded = browser.get(f"/jobs/{job.id}/log.txt")
    assert downloaded.headers["content-type"] == "text/plain; charset=utf-8"
    assert downloaded.headers["content-disposition"].startswith("attachment")
    assert ATTACK in downloaded.text
    assert "\x1b" not in downloaded.text


def test_no_path_leads_out_and_none_writes_headers(browser, queue):
    job = queue.create_job("t", agent="a")
    for path in (
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/jobs/..%2f..%2fetc%2fpasswd/log.txt",
        "/jobs/%00/log.txt", f"/jobs/{job.id}%0d%0aX-Evil:%201/log.txt", "/jobs/x/log.txt",
        "/agents/a%0d%0aX-Evil:%201", "/nothing%0d%0aX-Evil:%201", "/jobs?q=%0d%0aX-Evil:%201",
        "/jobs?q=%00",
    ):  # fmt: skip
        answer = browser.get(path)
        assert answer.status_code in {400, 404} or "?q=%0d" in path, path
        assert "x-evil" not in answer.headers, path
        assert "root:" not in answer.text, path
        assert "import" not in answer.text, path
    named = browser.get(f"/jobs/{job.id}/log.txt").headers["content-disposition"]
    assert named == f'attachment; filename="{job.short_id}.log"'


def test_who_may_only_look_is_offered_nothing_and_refused(serve, queue, databases, database, conn):
    job = queue.create_job("t", agent="a")
    databases.admin.execute("drop role if exists looker")
    databases.admin.execute("create role looker login password 'persona'")
    conn.execute("grant persona_viewer to looker")
    env = {"PERSONA_DATABASE_URL": databases.dsn(database, user="looker")}
    looker = serve(env=env).browser()
    page = looker.page(f"/jobs/{job.id}")
    assert 'action="/do/' not in page
    assert "may only look" in looker.page("/jobs/new")
    answer = looker.act("cancel", ref=str(job.id))
    assert answer.status_code == 403
    assert answer.json()["ok"] is False
    assert "permission denied" in answer.json()["words"]
    fields = {
        "ref": str(job.id), "job_type": "t", "agent": "a", "answer": "x", "provider": "p",
        "name": "a", "up_to": "1",
    }  # fmt: skip
    refusals = {name: looker.act(name, **fields).status_code for name in ACTIONS}
    # No gate, schedule or runner is there; whether it is, only those hear who may act on it.
    assert refusals == dict.fromkeys(ACTIONS, 403)
    without = looker.act("cancel", ref=str(job.id), script=False)
    assert without.status_code == 403
    assert "Not permitted" in without.text
    assert queue.get_job(job.id).status == "pending"


def test_a_tenants_dashboard_shows_its_own_business_only(serve, queue, databases, database, conn):
    role = f"w_{database}"
    databases.admin.execute(f"create role {role} login password 'persona' in role persona_client")
    try:
        conn.execute("select persona.assign_tenant(%s, '{mine}')", (role,))
        secret = "zq-of-the-others"
        others = queue.create_job("t", {"prompt": secret}, agent="a", business="others")
        mine = queue.create_job("t", {"prompt": "my own"}, agent="a", business="mine")
        queue.cancel_job(str(others.id))
        env = {"PERSONA_DATABASE_URL": databases.dsn(database, user=role)}
        tenant = serve(env=env).browser()

        pages = "jobs jobs?search=zq plots costs alerts runners agents agents/a schedules questions"
        for path in ("/", *(f"/{page}" for page in pages.split())):
            text = tenant.page(path)
            assert secret not in text.replace('value="zq"', ""), path
            assert others.short_id not in text, path
        assert "my own" in tenant.page("/jobs")
        assert "my own" in tenant.page(f"/jobs/{mine.id}")
        assert tenant.get(f"/jobs/{others.id}").status_code == 404
        assert tenant.act("retry", ref=str(others.id)).status_code == 404
        assert tenant.act("cancel", ref=str(mine.id)).status_code == 200
    finally:
        databases.admin.execute(f"drop owned by {role}; drop role {role}")


def test_a_role_that_may_not_look_serves_nothing(cli, databases, database):
    role = f"n_{database}"  # roles are the whole server's, and other tests run beside this one
    databases.admin.execute(f"create role {role} login password 'persona'")
    url = databases.dsn(database, user=role)
    refused = cli("dashboard", "--port", "0", env={"PERSONA_DATABASE_URL": url})
    databases.admin.execute(f"drop role {role}")
    assert refused.returncode == 5
    assert "may not look" in refused.stderr or "permission denied" in refused.stderr


def test_beyond_this_machine_a_token_has_to_be_chosen(cli, serve, tmp_path, home):
    refused = cli("dashboard", "--port", "0", "--listen", "0.0.0.0")
    assert refused.returncode == 78
    assert "--token-file" in refused.stderr
    token = tmp_path / "token"
    token.write_text("a-token-of-more-than-16-characters\n")
    token.chmod(0o644)
    readable = cli("dashboard", "--port", "0", "--token-file", token)
    assert (readable.returncode, "others may read" in readable.stderr) == (78, True)
    token.chmod(0o600)
    served = serve("--listen", "0.0.0.0", "--token-file", str(token), "--allow-host", "queue.lan")
    assert "token" not in served.link
    assert "clear text" in served.errors.read_text()
    with httpx.Client(base_url=served.url) as client:
        known = {"host": "queue.lan"}
        found = client.post("/login", data={"token": token.read_text()}, headers=known)
        assert found.status_code == 200
        assert client.get("/", headers={"host": "other.lan"}).status_code == 421


def test_by_default_only_this_machine_is_listened_to(serve, home):
    served = serve()
    assert served.url.startswith("http://127.0.0.1:")
    mode = (home / "dashboard.token").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    port = int(served.url.rpartition(":")[2])
    listening = [
        c.laddr
        for c in psutil.Process(served.process.pid).net_connections()
        if c.status == "LISTEN"
    ]
    assert listening == [("127.0.0.1", port)]


def test_a_new_token_ends_the_sessions(serve):
    first = serve()
    browser = first.browser()
    cookies = dict(browser.cookies)
    port = first.url.rpartition(":")[2]
    first.stop()
    again = serve(port=port)
    assert again.token == first.token
    with httpx.Client(base_url=again.url, cookies=cookies) as kept:
        assert kept.get("/").status_code == 200
        again.stop()
        serve("--new-token", port=port)
        assert kept.get("/").status_code == 401


def test_without_the_extra_one_line_names_it(cli, tmp_path):
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError(name='starlette')\n")
    refused = cli("dashboard", env={"PYTHONPATH": str(tmp_path)})
    assert refused.returncode == 78
    [line] = refused.stderr.splitlines()
    assert "pip install 'persona-pg[web]'" in line
