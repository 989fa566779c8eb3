"""The real programs through a real runner, against the stand-in provider: all of them at once.

One runner runs every scenario for every program; the tests then look at what came of each.  The
last one prints the table.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgtest
import psycopg
import pytest
from agents import programs
from agents.standin import PERSONS_ANSWER, Standin
from sqltest import Queue

pytestmark = [pytest.mark.agents, pytest.mark.timeout(900)]  # the first one installs from npm

# Scenario -> what becomes of the job: status, kind of failure.
EXPECTED = {
    "ask": ("completed", None),
    "stall": ("cancelled", "cancelled"),
    "hang": ("failed", "timeout"),
    "good": ("completed", None),
    "tool": ("completed", None),
    "unauthorized": ("failed", "auth"),
    "limited-until": ("pending", "rate_limited"),
    "broken": ("failed", "overloaded"),
    "overloaded": ("failed", "overloaded"),
}
EVERY = [(program, scenario) for scenario in EXPECTED for program in programs.PACKAGES]
PROVIDERS = {"claude": "anthropic", "gemini": "google", "codex": "openai"}
FORMATS = {"claude": "claude-stream-json", "gemini": "gemini-json", "codex": "codex-jsonl"}
CONVERSATION = {
    "claude": (["--session-id", "{new_session_id}"], ["--resume", "{session_id}"]),
    "gemini": (["--session-id", "{new_session_id}"], ["--resume", "{session_id}"]),
    "codex": ([], ["resume", "{session_id}"]),
}


def command_lines(program):
    """Return how a conversation begins, and how it goes on; any tool may be used."""
    path = str(programs.find(program))
    start = {
        "claude": [
            path, "-p", "--output-format", "stream-json", "--verbose", "--allowedTools", "Bash",
        ],
        "gemini": [
            path, "-m", "gemini-2.5-flash", "-o", "json", "--skip-trust",
            "--approval-mode", "yolo", "-p", "Go.",
        ],
        "codex": [path, "exec"],
    }[program]  # fmt: skip
    end = {
        # A login shell has a PATH of its own, where persona-job is not.
        "codex": [
            "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
            "-c", "allow_login_shell=false", "-",
        ]
    }.get(program, [])  # fmt: skip
    return [[*start, *between, *end] for between in CONVERSATION[program]]


@dataclass
class Ran:
    job: dict[str, Any]
    attempts: list[dict[str, Any]]
    left: list[str]
    gate: str


class World:
    """One database, one runner, one provider."""

    def __init__(self, dsn, folder, standin):
        self.dsn = dsn
        self.folder = folder
        self.standin = standin
        self.queue = Queue(psycopg.connect(dsn, autocommit=True))
        self.jobs = {}

    def add(self, program, scenario):
        name = f"{program}-{scenario}"
        home = self.folder / name
        home.mkdir()
        start, resume = command_lines(program)
        env = programs.settings(program, home, self.standin.url(scenario)) | {"HOME": str(home)}
        self.queue.agent(
            name, argv=start, resume_argv=resume, env=env, stdin_template="{prompt}",
            provider=PROVIDERS[program], output_format=FORMATS[program], kill_grace="2 s",
            keeps_conversation=True, max_attempts=1, workdir=str(home),
        )  # fmt: skip
        # An account each, so that no gate keeps another scenario waiting.
        self.queue.one("update_agent", name=name, changes={"account": scenario})
        self.jobs[program, scenario] = self.queue.create(
            "t", agent=name, payload={"prompt": "What is the answer?"},
            timeout="15 s" if scenario == "hang" else "90 s",
        )  # fmt: skip

    def start(self):
        where = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        env = {
            "PATH": where,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PERSONA_HOME": str(self.folder / "home"),
            "PERSONA_ENV_FILE": os.devnull,
            "PERSONA_DATABASE_URL": self.dsn,
        }
        program = shutil.which("persona-worker", path=where)
        argv = [program, "--concurrency", "6"]
        return pgtest.WorkerProcess(argv, env, self.folder / "worker.log")

    def attend(self, seconds=170):
        """Cancel and answer what is to be, until nothing is left to do."""
        deadline = time.monotonic() + seconds
        while open_ones := [each for each in self.jobs if self._is_open(*each)]:
            assert time.monotonic() < deadline, f"still open: {open_ones}"
            time.sleep(0.1)

    def _is_open(self, program, scenario):
        job = self.queue.job(self.jobs[program, scenario])
        if scenario == "stall" and job["status"] == "running":
            if self.standin.asked("stall", program):
                self.queue.act("cancel_job", job, reason="test")
        elif scenario == "ask" and job["status"] == "held":
            self.queue.act("answer_job", job, answer=PERSONS_ANSWER)
        elif scenario == "limited-until":
            return not self.queue.attempts(job)
        return job["status"] not in ("completed", "failed", "cancelled")

    def look(self, program, scenario):
        made = self.jobs[program, scenario]
        gates = self.queue.rows(
            "select g.state, g.reopens_at from persona.gates as g"
            " where g.provider = %s and g.account = %s",
            PROVIDERS[program], scenario,
        )  # fmt: skip
        return Ran(
            job=self.queue.job(made),
            attempts=self.queue.attempts(made),
            left=[str(process) for process in programs.left_behind([made["id"]])],
            gate="".join(f"{g['state']} until {g['reopens_at'] or 'opened'}" for g in gates),
        )


@pytest.fixture(scope="module")
def standin():
    with Standin() as server:
        yield server


@pytest.fixture(scope="module")
def ran(databases, postgresql_noproc, tmp_path_factory, standin):
    """Run everything; returns what came of each (program, scenario)."""
    name = databases.create(postgresql_noproc.template_dbname)
    world = World(databases.dsn(name), tmp_path_factory.mktemp("world"), standin)
    for program, scenario in EVERY:
        world.add(program, scenario)
    worker = world.start()
    try:
        world.attend()
        yield {each: world.look(*each) for each in EVERY}
    finally:
        worker.stop()
        world.queue.conn.close()
        databases.drop(name)


@pytest.mark.parametrize("program, scenario", EVERY)
def test_what_becomes_of_the_job(ran, program, scenario):
    found = ran[program, scenario]
    job = found.job

    assert (job["status"], job["failure_kind"]) == EXPECTED[scenario], job
    assert found.left == []
    if job["status"] == "completed":
        assert job["result"]["text"] == "The answer is 42."
        assert job["tokens"]["output"] > 0
        assert (float(job["cost_usd"] or 0) > 0) == (program == "claude")
    elif job["status"] == "failed":
        assert job["error"]


@pytest.mark.parametrize("program", programs.PACKAGES)
def test_a_refusal_closes_the_gate(ran, program):
    assert ran[program, "unauthorized"].gate == "closed until opened"
    assert ran[program, "limited-until"].gate.startswith("closed until 2")
    assert ran[program, "limited-until"].job["attempt"] == 0


@pytest.mark.parametrize("program", programs.PACKAGES)
def test_a_question_is_answered_in_the_same_conversation(ran, standin, program):
    found = ran[program, "ask"]

    assert len({attempt["session_id"] for attempt in found.attempts}) == 1
    last = json.dumps(standin.asked("ask", program)[-1].body)
    assert PERSONS_ANSWER in last
    assert "What is the answer?" in last


@pytest.mark.parametrize("program", programs.PACKAGES)
def test_the_tool_was_really_used(standin, ran, program):
    results = [one for one in standin.asked("tool", program) if one.has_tool_result]

    assert "started" in json.dumps(results[-1].body)


def test_the_table(ran, capsys):
    with capsys.disabled():
        print()
        for (program, scenario), found in ran.items():
            job = found.job
            tokens = " ".join(f"{key}={count}" for key, count in (job["tokens"] or {}).items())
            words = (
                program, scenario, job["status"], job["failure_kind"] or "-",
                job["cost_usd"] or "-", tokens or "-", len(found.left),
                found.gate or "-", (job["error"] or job["status_reason"] or "")[:60],
            )  # fmt: skip
            print(" | ".join(map(str, words)))
