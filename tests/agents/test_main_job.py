"""The main job, with the real claude: from `persona create` to the answer in `persona info`."""

from __future__ import annotations

import json
import os

import pytest
from agents import programs

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]


@pytest.fixture
def research(cli, conn, worker, *, standin, real_claude, home):
    """Ask the researcher one question in a scenario; returns the job's document and the runner."""

    def run(scenario, *options, question="What is the answer?", seconds=60, drain=True):
        env = programs.settings("claude", home, standin.url(scenario))
        conn.execute(
            "select persona.register_agent('researcher', env => %s, kill_grace => '2 s')",
            (json.dumps(env),),
        )
        path = f"{real_claude}{os.pathsep}/usr/local/bin:/usr/bin:/bin"
        made = cli("create", "-t", "research", "-q", question, "-a", "researcher", *options)
        assert made.returncode == 0, made.stderr
        runner = worker(*(["--drain"] if drain else []), env={"PATH": path})
        job_id = made.stdout.strip()
        if drain:
            assert runner.wait(seconds) == 0, runner.output()
        return job_id

    return run


@pytest.fixture
def info(cli):
    def show(job_id):
        return json.loads(cli("info", job_id, "--json").stdout)

    return show


def test_a_question_gets_its_answer(research, info, cli, standin, processes_left):
    standin.answer = 'It is 42: "the answer"\nto everything. \U0001f600'

    job_id = research("good", question='What is $(the) "answer"?\n-- Yours')

    job = info(job_id)
    assert job["status"] == "completed"
    assert job["result"]["text"] == standin.answer
    assert float(job["costUsd"]) > 0
    assert job["tokens"]["input"] == 12
    assert job["sessionId"]
    assert job["attempt"] == 1
    assert "It is 42" in cli("info", job_id).stdout
    asked = json.dumps(standin.asked("good")[-1].body, ensure_ascii=False)
    assert json.dumps('What is $(the) "answer"?\n-- Yours')[1:-1] in asked
    assert processes_left([job_id]) == []


def test_a_program_that_uses_up_its_turns_is_held_for_a_person(research, info):
    job = info(research("loop", "--max-attempts", "1"))

    assert (job["status"], job["failureKind"]) == ("held", "max_turns")


def test_a_question_from_a_bash_tool_is_answered_in_the_same_conversation(
    research, info, conn, cli, *, standin, worker, real_claude, home
):
    columns = "argv, resume_argv"
    argv, resume = conn.execute(
        f"select {columns} from persona.agents where name = 'researcher'"
    ).fetchone()
    for one in (argv, resume):
        one[one.index("--allowedTools") + 1] = "Bash"
    conn.execute(
        "select persona.register_agent('researcher', argv => %s, resume_argv => %s)", (argv, resume)
    )
    standin.tool_command = "persona-job ask 'Red or blue?'"

    job_id = research("tool")

    held = info(job_id)
    assert (held["status"], held["statusReason"]) == ("held", "question: Red or blue?")
    assert cli("answer", job_id, "Blue, of course").returncode == 0
    env = json.dumps(programs.settings("claude", home, standin.url("good")))
    conn.execute("select persona.register_agent('researcher', env => %s)", (env,))
    path = f"{real_claude}{os.pathsep}/usr/local/bin:/usr/bin:/bin"
    assert worker("--drain", "--name", "second", env={"PATH": path}).wait(60) == 0
    ended = info(job_id)
    assert (ended["status"], ended["result"]["text"]) == ("completed", standin.answer)
    assert ended["sessionId"] == held["sessionId"]
    last = json.dumps(standin.asked("good")[-1].body)
    assert "Blue, of course" in last
    assert "What is the answer?" in last
