"""Outside of jobs: the queue as tools, through the official SDK's client."""

from __future__ import annotations

import json
import subprocess
import time

CHANGING = {
    "create_job",
    "answer_question",
    "cancel_job",
    "retry_job",
    "hold_job",
    "release_job",
}
LOOKING = {
    "wait_for_jobs",
    "list_jobs",
    "get_job",
    "get_job_logs",
    "get_job_tree",
    "explain_job",
    "list_questions",
    "list_agents",
    "get_summary",
}


def claim(queue, runner, job):
    [run] = [one for one in queue.claim(runner, 50) if str(one["id"]) == job["id"]]
    return run


def test_every_tool_is_described_for_a_model(tools):
    found = tools.list()

    assert set(found) == CHANGING | LOOKING
    for name, tool in found.items():
        assert 30 < len(tool.description) < 500, name
        assert tool.annotations.read_only_hint == (name in LOOKING)
        assert tool.annotations.destructive_hint == (name == "cancel_job")
        for argument in tool.input_schema["properties"].values():
            assert argument["description"].endswith(".")


def test_a_job_from_its_creation_to_its_result(tools, queue):
    runner = queue.runner("tour")
    job = tools.data("create_job", type="t", agent="a", prompt="Count.", tags=["mcp"])
    assert job["status"] == "pending"
    assert job["explanation"].startswith("ready")
    waiting = tools.begin("wait_for_jobs", ids=[job["shortId"]], timeoutSeconds=30)

    run = claim(queue, runner, job)
    lines = [{"job_id": str(run["id"]), "lease": run["lease"], "seq": 1, "stream": "stdout",
              "level": "info", "message": "counting"}]  # fmt: skip
    queue.call("append_logs", runner_id=runner, lines=lines)
    assert "running on tour" in tools.answer("explain_job", id=job["id"])
    queue.report(runner, run, result={"text": "42", "long": "x" * 9000})

    ended = json.loads(waiting.result(20).content[0].text)
    assert ended["ended"] is True
    assert ended["jobs"][0]["status"] == "completed"
    assert ended["jobs"][0]["result"]["text"] == "42"
    assert "(5000 more characters)" in tools.answer("get_job", id=job["id"])
    whole = tools.data("get_job", id=job["id"], whole=True)
    assert len(whole["result"]["long"]) == 9000
    assert whole["payload"] == {"prompt": "Count."}
    printed = tools.answer("get_job_logs", id=job["id"])
    assert " stdout: counting\n[1 lines; go on with afterLease=" in printed
    cursor = {"afterLease": run["lease"], "afterSeq": 1}
    assert tools.answer("get_job_logs", id=job["id"], **cursor).startswith("[0 lines;")
    [listed] = tools.data("list_jobs", status="completed", limit=1)["jobs"]
    assert (listed["id"], "result" in listed) == (job["id"], False)


def test_dependencies_delays_and_trees(tools, queue):
    first = tools.data("create_job", type="t", agent="a", delay="1 hour")
    assert "waits until" in first["explanation"]
    second = tools.data(
        "create_job", type="t", agent="a", after=[first["shortId"]], parent=first["shortId"],
        timeout="10 minutes", maxAttempts=2, priority=5, dedupeKey="mcp-second",
    )  # fmt: skip
    assert second["status"] == "blocked"
    again = tools.data("create_job", type="t", agent="a", dedupeKey="mcp-second")
    assert again["id"] == second["id"]

    tree = tools.data("get_job_tree", id=first["id"])["jobs"]
    assert [node["id"] for node in tree] == [first["id"], second["id"]]
    assert tools.data("wait_for_jobs", ids=[first["id"]], timeoutSeconds=0)["ended"] is False


def test_hold_release_cancel_and_retry(tools):
    job = tools.data("create_job", type="t", agent="a", delay="1 hour")

    held = tools.data("hold_job", id=job["id"], reason="not today")
    assert (held["status"], held["statusReason"]) == ("held", "not today")
    assert tools.data("release_job", id=job["id"])["status"] == "pending"
    assert tools.data("cancel_job", id=job["id"], reason="no")["status"] == "cancelled"
    assert tools.data("retry_job", id=job["id"])["status"] == "pending"
    assert tools.data("cancel_job", id=job["id"], tree=False)["status"] == "cancelled"


def test_a_question_is_listed_and_answered(tools, queue):
    runner = queue.runner("asked")
    job = tools.data("create_job", type="t", agent="a", prompt="?")
    run = claim(queue, runner, job)
    queue.call("job_call", runner_id=runner, job_id=run["id"], lease=run["lease"],
               command="ask", body={"text": "Red or blue?"})  # fmt: skip
    queue.report(runner, run, outcome="cancelled")

    [question] = tools.data("list_questions")["questions"]
    assert (question["id"], question["text"]) == (job["id"], "Red or blue?")
    assert tools.data("answer_question", id=job["id"], text="Blue.")["status"] == "pending"
    assert tools.data("list_questions") == {"questions": []} or tools.data("list_questions") == {}
    tools.data("cancel_job", id=job["id"])


def test_agents_and_counts(tools):
    [agent] = [a for a in tools.data("list_agents")["agents"] if a["name"] == "a"]
    assert agent["description"] == "Does what the tests want."
    assert "pending" in tools.data("get_summary")


def test_an_error_is_told_to_the_model_with_what_to_do(tools):
    assert 'no job "ffffffff"; see' in tools.refusal("get_job", id="ffffffff")
    assert "no-such" in tools.refusal("create_job", type="t", agent="no-such")
    assert tools.refusal("create_job", agent="a") == "create_job: 'type' is a required property"
    wrong = tools.refusal("create_job", type="t", agent="a", priority="high")
    assert wrong == "create_job: priority: 'high' is not of type 'integer'"
    assert "interval" in tools.refusal("create_job", type="t", agent="a", delay="soon")
    both = tools.refusal("create_job", type="t", agent="a", prompt="x", question="y")
    assert both == "give one of prompt, question and payload, not prompt and question"
    job = tools.data("create_job", type="t", agent="a", delay="1 hour")
    assert "pending" in tools.refusal("retry_job", id=job["id"])
    assert "there is no tool" in tools.refusal("drop_everything")


def test_a_lost_database_is_an_error_and_not_the_end(tools, queue, socket_folder):
    link = socket_folder / ".s.PGSQL.5432"
    target = link.readlink()
    link.unlink()
    queue.run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )
    try:
        started = time.monotonic()
        assert tools.refusal("get_summary").startswith("no connection to the database at")
        assert time.monotonic() - started < 15
    finally:
        link.symlink_to(target)

    assert "pending" in tools.data("get_summary")


def test_without_a_database_there_is_a_server_that_says_so(start_server):
    tools = start_server("--read-only", PERSONA_DATABASE_URL="postgresql://127.0.0.1:9/x")

    assert set(tools.list()) == LOOKING
    assert "no connection to the database at 127.0.0.1" in tools.refusal("list_agents")


def test_nothing_but_the_protocol_is_on_standard_output(persona_env):
    """The handshake that most programs use today, by hand."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
    }
    asked = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
        {"id": 3, "method": "tools/call", "params": {"name": "get_summary", "arguments": {}}},
    ]
    lines = "".join(json.dumps({"jsonrpc": "2.0", **one}) + "\n" for one in asked)
    with subprocess.Popen(
        ["persona", "mcp"],
        env=persona_env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        server.stdin.write(lines)
        server.stdin.flush()
        # What has not been answered when its input ends never is.
        answered = [json.loads(server.stdout.readline()) for _ in range(3)]
        rest, errors = server.communicate(timeout=60)

    assert (server.returncode, rest, errors) == (0, "", "")
    answers = {one["id"]: one for one in answered}
    assert answers[1]["result"]["serverInfo"]["name"] == "persona"
    assert "queue of jobs" in answers[1]["result"]["instructions"]
    assert len(answers[2]["result"]["tools"]) == len(CHANGING | LOOKING)


def test_without_the_extra_it_says_which(cli, tmp_path):
    (tmp_path / "mcp.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'mcp'\", name='mcp')\n"
    )
    done = cli("mcp", env={"PYTHONPATH": str(tmp_path)})

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        "persona: `persona mcp` needs the extra [mcp]; run: pip install 'persona-pg[mcp]'\n"
    )
