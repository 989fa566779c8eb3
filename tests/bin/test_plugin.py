"""The first system's plugin on our bridge: a real Node.js program that spawns pythonPath."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter

import pytest

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
COMMANDS = {
    "create_job": ['{"type": "agent_action", "agent": "cro"}'],
    "get_job_status": ["abcd"],
    "get_pending_jobs": [""],
    "get_running_jobs": [""],
    "get_completed_jobs": ["20"],
    "get_failed_jobs": ["20"],
    "get_hung_jobs": ["5"],
    "get_job_logs": ["abcd", "50"],
    "get_local_logs": ["work", "cro", "2026-02-01"],
    "log_job_event": ["abcd", "info", "text"],
    "log_batch": ["abcd", "[]"],
    "get_job_summary": [],
    "update_job_status": ["abcd", '{"status": "running"}'],
    "heartbeat": ["abcd"],
    "cancel_pending_jobs": ["why"],
    "get_agent_daily_performance": ["", "7"],
    "publish_event": ["job.started", "abcd", "{}"],
    "read_events": ["10", "30"],
    "delete_event": ["1"],
    "get_events": ["-", "-", "50"],
}


def test_the_full_exchange_uses_every_command(node):
    assert set(json.loads(node("exchange.js"))) == set(COMMANDS)


def test_twenty_jobs_of_the_plugin_and_twenty_of_a_runner_are_each_executed_once(
    node, queue, worker, tmp_path
):
    ran = tmp_path / "ran by the runner"
    queue.agent("queued", argv=["sh", "-c", f'echo "$PERSONA_JOB_ID" >> "{ran}"'])
    worker("--agent", "queued", "--concurrency", "2", "--name", "live")

    mine = node("consumer.js").split()

    jobs = queue.rows("select id::text, job_type, status, attempt from persona.jobs")
    assert Counter((j["job_type"], j["status"], j["attempt"]) for j in jobs) == {
        ("agent_action", "completed", 1): 20,
        ("research", "completed", 1): 20,
    }
    executed = Counter(mine) + Counter(ran.read_text().split())
    assert executed == Counter(j["id"] for j in jobs)
    holders = queue.rows(
        "select j.job_type, a.runner_name like 'bridge:%' as by_bridge, count(*) as n"
        " from persona.job_attempts as a join persona.jobs as j on j.id = a.job_id"
        " group by 1, 2 order by 1"
    )
    assert [(h["job_type"], h["by_bridge"], h["n"]) for h in holders] == [
        ("agent_action", True, 20),
        ("research", False, 20),
    ]


@pytest.mark.no_database
@pytest.mark.parametrize(
    "address", ["postgresql://u:secret@127.0.0.1:1/db", "host=/nowhere dbname=x"]
)
def test_with_the_database_down_every_command_says_connection(call, address, small_env):
    started = time.monotonic()
    for command, arguments in COMMANDS.items():
        answer = call(
            "persona-bridge", "/x/persona/bridge.py", command, *arguments,
            env=small_env | {"PERSONA_DATABASE_URL": address},
        )  # fmt: skip
        assert answer.code == 1
        assert answer.document.keys() == {"error"}
        assert "connection" in answer.document["error"]
        assert "secret" not in answer.document["error"]
        assert answer.talk == ""
    assert time.monotonic() - started < 20


def test_words_that_would_make_the_client_try_again_are_not_in_lasting_errors(call):
    for arguments in (
        ["get_job_status", "429502503"],
        ["network connection timeout"],
        ["create_job", "timeout 429"],
        ["create_job", '{"type": "x", "agent": "connection"}'],
        [],
        ["log_job_event", "a", b"\xff\xfe", "x"],
    ):
        answer = call("persona-bridge", *arguments)
        assert answer.code == 1
        assert answer.document.keys() == {"error"}
        again = ("network", "connection", "timeout", "429", "502", "503")
        assert not [word for word in again if word in answer.document["error"].lower()]


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_hostile_arguments_arrive_as_they_are(call, queue, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    text = "' \" \\ :'x' :y $(id) `id` $$ %s %% \t\n\r ; -- \\gset \u00ff \u20ac \U0001f600"
    made = call("persona-bridge", "create_job", '{"type": "agent_action", "agent": "cro"}')
    job = made.document["shortId"]

    told = call("persona-bridge", "log_job_event", job, "info", text, shell=shell)

    assert (told.code, told.document) == (0, {"success": True})
    assert queue.value("select message from persona.job_logs") == text
    long = "x" * 120_000
    assert call("persona-bridge", "log_job_event", job, "info", long, shell=shell).code == 0
    assert queue.value("select max(length(message)) from persona.job_logs") == 120_000
