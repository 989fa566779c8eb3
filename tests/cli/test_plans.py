"""persona schedule, persona alerts, and persona-alert against real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


def test_a_schedule_from_its_making_to_its_end(cli):
    made = cli(
        "schedule", "add", "daily", "30 7 * * 1-5", "-t", "research", "-p", "News?",
        "--zone", "Europe/Berlin", "--catch-up", "one",
    )  # fmt: skip
    assert made.stdout.startswith("schedule daily: active, next ")
    [listed] = json.loads(cli("schedule", "--json").stdout)
    assert (listed["spec"], listed["catch_up"]) == ("30 7 * * 1-5", "one")
    preview = cli("schedule", "next", "daily", "-n", "3").stdout.splitlines()
    assert len(preview) == 3
    assert all(" 07:30:00 CE" in line and "+00:00" in line for line in preview)
    assert "News?" in cli("schedule", "show", "daily").stdout
    assert cli("schedule", "pause", "daily").stdout == "schedule daily: paused, next never\n"
    assert "active" in cli("schedule", "resume", "daily").stdout
    assert cli("schedule", "remove", "daily").stdout == "schedule daily: removed\n"
    assert cli("schedule", "show", "daily").returncode == 3


def test_an_expression_that_cannot_be_read_is_refused_at_once(cli):
    done = cli("schedule", "add", "x", "99 * * * *", "-t", "research", "-p", "?")

    assert done.returncode == 2
    assert "no cron expression" in done.stderr


def test_rules_and_alerts(cli, queue, create, runner):
    cli("alerts", "rule", "add", "r", "--kind", "job_failed", "--to", "slack",
        "--url-from", "ALERT_SLACK_URL", "--when", "is_exhausted=true")  # fmt: skip
    assert "ALERT_SLACK_URL" in cli("alerts", "rules").stdout
    create(max_attempts=1)
    runner.end(runner.claim(), "failed", error="boom")

    assert "boom" in cli("alerts").stdout
    [job] = queue.list_jobs(agent="alert")
    assert queue.get_job(job.id).payload["delivery"]["to"] == "slack"
    assert cli("alerts", "seen").stdout == "1 marked as seen\n"
    assert cli("alerts").stdout == ""
    assert cli("alerts", "rule", "remove", "r").stdout == "rule r removed\n"


# -- delivery ----------------------------------------------------------------------------------

ALERT = {"kind": "job_failed", "message": "boom <!here> @everyone", "id": 1}


def deliver(delivery, **environ):
    payload = {"rule": "r", "delivery": delivery, "alerts": [ALERT]}
    return subprocess.run(
        [sys.executable, "-m", "persona_pg.alerting"],
        check=False, input=json.dumps(payload), text=True, capture_output=True, timeout=60,
        env={"PATH": os.environ["PATH"], **environ},
    )  # fmt: skip


@pytest.fixture
def web():
    """Start a server that answers what it is told to, in that order, and keeps what it got."""
    got, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret", got, answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_is_tried_again_while_its_server_is_disturbed(web):
    url, got, answers = web
    answers += [500, 500]

    done = deliver({"to": "webhook"}, ALERT_WEBHOOK_URL=url)

    assert (done.returncode, len(got)) == (0, 3)
    assert got[-1]["alerts"] == [ALERT]


def test_a_refusal_is_told_without_the_address(web):
    url, got, answers = web
    answers += [403]

    done = deliver({"to": "webhook"}, ALERT_WEBHOOK_URL=url)

    assert (done.returncode, len(got)) == (1, 1)
    assert "answered 403" in done.stderr
    assert "secret" not in done.stderr


def test_slack_and_discord_get_their_shapes_and_nobody_is_called(web):
    url, got, _ = web
    deliver({"to": "slack", "url_from": "ALERT_SLACK_URL"}, ALERT_SLACK_URL=url)
    deliver({"to": "discord"}, ALERT_WEBHOOK_URL=url)

    slack, discord = got
    assert slack["text"] == "[job_failed] boom &lt;!here&gt; @everyone"
    assert discord["allowed_mentions"] == {"parse": []}


def test_a_missing_address_is_named():
    done = deliver({"to": "mail"})

    assert done.returncode == 1
    assert "ALERT_SMTP_URL is not set" in done.stderr


def test_mail_goes_through_a_real_conversation():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = []

        def serve():
            conn, _ = listener.accept()
            with conn, conn.makefile("rwb", buffering=0) as wire:
                wire.write(b"220 sink\r\n")
                in_data = False
                for raw in wire:
                    line = raw.decode().rstrip("\r\n")
                    said.append(line)
                    if in_data and line != ".":
                        continue
                    in_data = line.upper() == "DATA"
                    if line.upper() == "QUIT":
                        wire.write(b"221 bye\r\n")
                        return
                    wire.write(b"354 go on\r\n" if in_data else b"250 ok\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        done = deliver({"to": "mail"}, ALERT_SMTP_URL=f"smtp://127.0.0.1:{port}",
                       ALERT_MAIL_TO="me@example.org")  # fmt: skip
        thread.join(10)

    assert done.returncode == 0, done.stderr
    assert "rcpt TO:<me@example.org>" in said
    assert any(line.startswith("Subject: persona: boom") for line in said)


def test_a_command_gets_the_alerts_on_its_standard_input(tmp_path):
    out = tmp_path / "out"
    code = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"

    done = deliver({"to": "command", "argv": [sys.executable, "-c", code]})

    assert done.returncode == 0
    assert json.loads(out.read_text())["alerts"] == [ALERT]
