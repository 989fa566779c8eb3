"""The socket of a running job: delegating, waiting, asking, and who may speak."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "persona_pg" / "job_client.py"
SPECIAL = 'half "way" \\ \t\n \x01 \x7f \u00e9 \U0001f389'
CHAIN = """
case $1 in
  3) persona-job progress 50 'half way'; echo deep; persona-job result '"bottom"' ;;
  *) persona-job delegate -a chain -t t --payload "{\\"level\\": $(($1 + 1))}" --wait ;;
esac
"""


@pytest.fixture
def agent(conn):
    """Register an agent that runs a shell script with placeholders."""

    def make(name, script, *arguments, **options):
        options = {"may_delegate_to": [name], "workdir": "/"} | options
        named = ", ".join(f"{key} => %({key})s" for key in options)
        conn.execute(
            f"select persona.register_agent(%(name)s, argv => %(argv)s, {named})",
            {"name": name, "argv": ["/bin/sh", "-c", script, "sh", *arguments], **options},
        )

    return make


def braces(script):
    """Quote the braces of a script that are no placeholders."""
    return script.replace("{", "{{").replace("}", "}}")


def asked_by_a_stranger(path):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        with contextlib.suppress(BrokenPipeError):  # it may be refused before it asks
            stranger.sendall(b'{"command": "get"}\n')
        return json.loads(stranger.makefile().readline())


def test_telling_progress_loads_no_more_than_python_itself(tmp_path):
    """A job may say it a thousand times: `json` alone takes longer to load than Python."""
    path, said = str(tmp_path / "s"), []

    def answer():
        connection = listener.accept()[0]
        with connection, connection.makefile() as lines:
            said.append(json.loads(lines.readline()))
            connection.sendall(b'{"ok": true, "data": {}}\n')

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        thread = threading.Thread(target=answer)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", CLIENT, "progress", "50%", SPECIAL],
            env={"PERSONA_SOCKET": path}, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        thread.join()

    assert said == [{"command": "progress", "body": {"percent": 50.0, "text": SPECIAL}}]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"json", "re", "enum", "socket", "selectors", "typing"} & loaded


def test_three_levels_wait_for_each_other_with_one_slot(jobs, agent, worker, cli):
    # Also where the agent itself may run only once at a time.
    agent("chain", braces(CHAIN), "{payload.level}", max_concurrent=1)
    top = jobs.create("t", {"level": 0}, agent="chain")
    later = jobs.create("t", {"level": 3}, agent="chain")
    worker("--concurrency", 1)

    assert jobs.end(top).status == "completed"
    assert jobs.end(later).status == "completed"

    drawn = cli("tree", top).stdout.splitlines()
    assert len(drawn) == 4
    assert all("completed" in line and "chain" in line for line in drawn)
    [child] = [json.loads(line) for line in jobs.lines(top)]
    assert (child["status"], child["assignedTo"]) == ("completed", "chain")
    rows = json.loads(cli("tree", top, "--json").stdout)
    bottom = jobs.row(rows[3]["jobId"])
    assert (bottom.result, bottom.depth, bottom.delegated_by) == (
        {"text": "deep\n", "value": "bottom"},
        3,
        "chain",
    )
    assert (bottom.progress, bottom.progress_text) in {(50, "half way"), (None, None)}
    # One after the other: the job that came later began when the whole chain was over.
    assert jobs.row(later).started_at > bottom.completed_at


def test_a_question_is_answered_and_the_program_goes_on(jobs, agent, worker, cli):
    agent("asker", "persona-job ask 'Which \"one\"?'; echo not before; sleep 60")
    job = jobs.create("t", {}, agent="asker")
    runner = worker("--concurrency", 1)

    row = jobs.until(job, "held")

    assert row.status_reason == 'question: Which "one"?'
    assert (row.attempt, jobs.lines(job)) == (0, [])
    runner.stop()
    assert cli("answer").stdout.count('Which "one"?') == 1
    agent("asker", "persona-job ask 'Which \"one\"?'; echo done")
    assert cli("answer", job, "the 'red' one").returncode == 0
    worker("--concurrency", 1)
    assert jobs.end(job).status == "completed"
    assert jobs.lines(job) == ["the 'red' one", "done"]
    shown = cli("info", job).stdout
    assert 'asked: Which "one"?' in shown
    assert ": the 'red' one" in shown


def test_a_conversation_is_resumed_with_the_answer(jobs, conn, tmp_path, worker):
    """As Claude Code does: told the id of a new conversation, and of the one to resume."""
    program = tmp_path / "claude"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, subprocess, sys\n"
        "said = sys.stdin.read()\n"
        "if '--resume' not in sys.argv:\n"
        "    subprocess.run(['persona-job', 'ask', 'Red or blue?'])\n"
        "print(json.dumps({'type': 'result', 'subtype': 'success', 'is_error': False,\n"
        "    'result': said, 'session_id': sys.argv[-1], 'total_cost_usd': 0.5}))\n"
    )
    program.chmod(0o755)
    conn.execute("update persona.agents set workdir = '/' where name = 'researcher'")
    job = jobs.create("research", {"question": "Colour?"})
    worker(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    asked = jobs.until(job, "held")
    assert len(asked.session_id) == 36

    conn.execute("select persona.answer_job(%s, 'blue')", (job,))

    ended = jobs.end(job)
    assert (ended.status, ended.result["text"]) == ("completed", "blue")
    assert (ended.session_id, ended.cost_usd) == (asked.session_id, 0.5)


def test_strangers_nonsense_and_hostile_input(jobs, agent, worker, tmp_path, eventually):
    """One job for all of it: what it prints is compared at the end."""
    big = tmp_path / "big"
    big.write_bytes(b"\xff\0\xe2\x82'\"\\\n$(id)" + b"x" * (1 << 20))
    python = f"{shlex.quote(sys.executable)} -I -c"
    raw = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(os.environ['PERSONA_SOCKET'])\n"
        "s.sendall(sys.argv[1].encode() + b'\\n'); print(s.makefile().readline().strip())\n"
    )
    script = f"""
      echo "$PERSONA_SOCKET"
      stat -c '%a' "$PERSONA_SOCKET" "${{PERSONA_SOCKET%/*}}"
      persona-job result - < {big}; echo "$?"
      persona-job log info - < {big}; echo "$?"
      printf '{{"a": "\\\\u0000 \\\\ud800"}}' | persona-job result -; echo "$?"
      for bad in NaN 1e999 "$(printf '[%.0s' $(seq 300))$(printf ']%.0s' $(seq 300))"; do
        persona-job result "$bad"; echo "$?"
      done
      persona-job delegate -a speaker -t t --key k - < {big}; echo "$?"
      persona-job delegate -a shell -t shell id; echo "$?"
      persona-job release; echo "$?"
      persona-job progress 101; echo "$?"
      persona-job log loud x; echo "$?"
      persona-job get 00000000; echo "$?"
      {python} {shlex.quote(raw)} 'nonsense'
      {python} {shlex.quote(raw)} '["a"]'
      {python} {shlex.quote(raw)} '{{"command": "regain"}}'
      env -i setsid {python} {shlex.quote(raw.replace("os.environ['PERSONA_SOCKET']", "sys.argv[2]"))} '{{"command": "get"}}' "$PERSONA_SOCKET" | cut -c 1-12
      echo ready; sleep 60
    """
    agent("speaker", braces(script), max_attempts=1)
    job = jobs.create("t", {}, agent="speaker", priority=9)
    worker("--concurrency", 1)
    eventually(lambda: jobs.lines(job)[-1:] == ["ready"], 60, what=lambda: jobs.lines(job))

    path, *told = jobs.lines(job)
    refusal = asked_by_a_stranger(path)
    jobs.cancel(job)

    assert refusal["error"]["code"] == "denied"
    child = json.loads(told.pop(8))
    assert child["status"] == "pending"
    stored = jobs.row(child["id"]).payload["prompt"]
    assert stored.startswith("��\ufffd'\"\\\n$(id)xxx")
    assert len(stored) > 1 << 20
    codes = [line for line in told if line.isdecimal()]
    assert codes == ["600", "700", "2", "0", "0", "2", "2", "2", "0", "5", "2", "2", "2", "3"]
    answers = [json.loads(line)["error"] for line in told if line.startswith('{"ok": f')]
    assert [answer["code"] for answer in answers] == ["invalid"] * 3
    assert told[-2] == '{"ok": true,'
    ended = jobs.end(job)
    # The next job may get the same socket; until then nobody may speak.
    assert asked_by_a_stranger(path)["error"]["code"] == "denied"
    assert ended.status == "cancelled"


def test_the_client_starts_fast_and_fails_in_one_line(run_program):
    told = run_program("/bin/sh", CLIENT.parents[1] / "bin" / "persona-job", "get")

    assert (told.returncode, told.stdout) == (78, "")
    assert told.stderr.count("\n") == 1
    modules = run_program(sys.executable, "-I", "-S", "-X", "importtime", CLIENT, "--help").stderr
    assert "argparse" not in modules
    assert "asyncio" not in modules
