"""A first system of the tests' making: its folder, and its database."""

from __future__ import annotations

import json

import psycopg
import pytest
from sqltest import Queue

EXECUTIONS = {
    "executions": [
        {"id": "exec-2026-01-05T06-00-00-cro", "agent": "cro", "action": "daily-pipeline-review",
         "started": "2026-01-05T06:00:00Z", "timeout": "2026-01-05T06:10:00Z", "pid": 4711,
         "status": "completed", "ended": "2026-01-05T06:04:30Z", "exit_code": 0},
        {"id": "exec-2026-01-05T07-00-00-researcher", "agent": "researcher", "action": "process",
         "started": "2026-01-05T07:00:00Z", "status": "failed", "reason": "no network",
         "ended": "2026-01-05T07:00:09Z", "exit_code": 1},
        {"id": "exec-2026-01-06T07-00-00-researcher", "agent": "researcher", "action": "process",
         "started": "2026-01-06T07:00:00Z", "timeout": "2026-01-06T07:20:00Z",
         "status": "timeout", "ended": "2026-01-06T07:20:00Z", "exit_code": 124},
        {"id": "exec-lost", "agent": "assistant", "action": "morning-briefing",
         "started": "2026-01-07T05:15:00Z", "timeout": "2026-01-07T05:20:00Z", "pid": 99,
         "status": "running", "ended": None},
        {"id": "exec-alive", "agent": "assistant", "action": "evening-summary",
         "started": "2126-01-07T05:15:00Z", "timeout": "2126-01-07T05:20:00Z", "pid": 100,
         "status": "running", "ended": None},
        {"id": "exec-nobody", "started": "2026-01-05T06:00:00Z", "status": "completed"},
        {"id": "exec-odd", "agent": "cro", "started": "2026-01-05T06:00:00Z", "status": "maybe"},
    ],
    "last_cleanup": None,
}  # fmt: skip
RUNNING = {
    "version": 1,
    "agents": {
        "assistant-1": {"agent": "assistant", "action": "evening-summary", "pid": 100,
                        "startTime": "2126-01-07T05:15:01.000Z"},
        "cro-2": {"agent": "cro", "action": "weekly-forecast", "jobId": "1a2b3c4d",
                  "startTime": "2026-01-08T09:00:00.000Z"},
    },
    "lastUpdated": "2026-01-08T09:00:00.000Z",
}  # fmt: skip
QUEUE = {
    "primary": [
        {"id": "t1", "content": "Draft a follow-up", "instance": "MHM", "type": "agent-task",
         "line": 12, "sourcePath": "Resources/Agenda/Daily/2026-01-08.md",
         "queuedAt": "2026-01-08T10:00:00.000Z", "attempts": 0},
    ],
    "secondary": [],
    "dlq": [
        {"id": "t2", "content": "Book a room", "instance": "PersonalMCO", "type": "agent-task",
         "queuedAt": "2026-01-08T11:00:00.000Z", "attempts": 2, "lastError": "exit code 1",
         "lastAttemptAt": "2026-01-08T11:30:00.000Z"},
    ],
    "lastUpdated": "2026-01-08T11:30:00.000Z",
}  # fmt: skip
PENDING = {
    "pending": [
        {"date": "2026-01-09", "agent": "cro", "action": "daily-pipeline-review",
         "content": "Three deals moved.", "queued_at": "2026-01-09T06:01:00Z"},
    ]
}  # fmt: skip
ASSISTANT = """\
---
name: assistant
role: Executive Assistant
tier: support
model: sonnet
timeouts: {total: 7m}
schedule:
  type: cron
  patterns:
    - name: morning-briefing
      cron: "15 5 * * 1-5"
direct_reports: [researcher]
tools:
  - Read:Resources/**/*
  - Write:Resources/General/Embeds/*.md
  - WebSearch
---

# Assistant

Say {nothing} of {{business}}.
"""
SCHEDULES = """\
schedules:
  assistant:
    - name: morning-briefing
      cron: "15 5 * * 1-5"  # weekdays
      action: morning-briefing
event_triggers:
  daily_note_updated:
    agents: [researcher]
    path: "Resources/Agenda/Daily/*.md"
    operation: update
  project_created:
    agents: [project-manager]
    path: "Projects/**/*.md"
    operation: create
"""
ENV = """\
# Environment Variables
default_provider: claude
routing_enabled: true
default_instance: PersonalMCO
header_mhm: MHM
header_personal: PersonalMCO
"""


@pytest.fixture
def root(tmp_path):
    """The folder of a first system with one instance, as its own scripts leave it."""
    root = tmp_path / "my vault" / "Projects" / "Persona"
    instance = root / "instances" / "PersonalMCO"
    files = {
        "state/executions.json": json.dumps(EXECUTIONS),
        "state/running-agents.json": json.dumps(RUNNING),
        "state/queue.json": json.dumps(QUEUE),
        "state/pending-notes.json": json.dumps(PENDING),
        "agents/assistant.md": ASSISTANT,
        "agents/jules.md": "---\nname: jules\nrole: Coder\nprovider: jules\n---\nCode.\n",
        "agents/AGENTS.md": "# About agents\n",
        "agents/assistant/actions/morning-briefing.md": "Brief me.\n",
        "config/schedules.yaml": SCHEDULES,
        "../../config/env.md": ENV,
    }
    for name, text in files.items():
        path = instance / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def state(root):
    return root / "instances" / "PersonalMCO" / "state"


@pytest.fixture
def migrate(run_own, root):
    """Run `persona-migrate` on the folder."""

    def run(command, *arguments, **options):
        given = [] if command == "database" else ["--persona-root", root]
        return run_own("persona-migrate", command, *given, *arguments, **options)

    return run


@pytest.fixture
def report(migrate):
    """The same, with --json; returns the document."""

    def run(*arguments, code=0, **options):
        done = migrate(*arguments, "--json", **options)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def queue(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield Queue(conn)
