"""persona notes, as a person and a service use it: real notes, real processes."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime

import pgtest
import pytest


@pytest.fixture
def note(tmp_path, persona_env):
    """Today's note in a vault of its own."""
    folder = tmp_path / "My vault"
    folder.mkdir()
    persona_env["PERSONA_VAULT_PATH"] = str(folder)
    return folder / f"{datetime.now().astimezone().date()}.md"


def answer(runner):
    job = runner.claim()
    assert runner.end(job, result={"text": "So."}) == "ok"
    return str(job[0])[-8:]


def test_scanning(note, cli, queue, runner):
    note.write_text("## Acme\n- [?] Why?\n- [A] tidy\n- ~~[?] old~~\n")

    first = cli("notes", "scan")
    assert first.returncode == 4
    assert first.stdout.count("would create") == 2
    assert "the first scan of this vault" in first.stderr
    assert "persona notes scan --yes" in first.stderr
    assert cli("notes", "scan", "--dry-run").returncode == 0
    assert queue.list_jobs() == []

    done = cli("notes", "scan", "--yes")
    assert (done.returncode, done.stdout.count("created ")) == (0, 2)
    assert done.stderr == "vault My vault: 1 note, 2 marked lines, 2 new jobs\n"
    again = json.loads(cli("notes", "scan", "--json").stdout)
    assert [line["action"] for line in again["lines"]] == ["known", "known", "answered"]
    assert (again["vault"], again["notes"], again["created"]) == ("My vault", 1, 0)
    assert len(queue.list_jobs()) == 2

    short = answer(runner)
    note.write_text(note.read_text() + f"- [?] {'x' * 11_000}\n")
    back = cli("notes", "scan", "--write-back")
    assert back.stdout == (
        f"answer to {short} written: Resources/General/Embeds/{short}-research.md\n"
        f"linked: {note.name}:2\n"
    )
    assert (back.returncode, back.stderr.count("\n")) == (1, 2)
    assert f"persona: {note.name}:5: longer than 10000 characters, left out" in back.stderr

    listed = cli("notes")
    assert listed.returncode == 0
    assert "completed" in listed.stdout
    assert f"Resources/General/Embeds/{short}-research.md" in listed.stdout
    rows = [json.loads(line) for line in cli("notes", "status", "--jsonl").stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["?", "A", "?"]


@pytest.mark.no_database
def test_a_vault_that_is_not_set_or_not_there_is_a_matter_of_configuration(cli):
    for arguments, said in (((), "PERSONA_VAULT_PATH"), (("--vault", "/nowhere"), "/nowhere")):
        done = cli("notes", "scan", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
        assert said in done.stderr


def test_watching(note, popen, queue, runner, told):
    watch = popen("notes", "watch", "--settle", "100ms", "--write-back", "--jsonl")
    assert "watching" in watch.stderr.readline()
    note.write_text("nothing\n")
    pgtest.eventually(lambda: queue.view("daily_note_state"))

    note.write_text("[?] Why?\n[A] tidy\n")
    events = [json.loads(watch.stdout.readline()) for _ in range(2)]
    assert [event["event"] for event in events] == ["created", "created"]
    assert [event["question"] for event in events] == ["Why?", "tidy"]
    answer(runner)
    ended = time.monotonic()
    events = [json.loads(watch.stdout.readline())["event"] for _ in range(2)]
    assert events == ["answered", "linked"]
    # It was told: by itself it looks once a minute.
    assert time.monotonic() - ended < 30
    assert note.read_text().count("|answer]]") == 1

    watch.send_signal(signal.SIGTERM)
    assert watch.communicate(timeout=10) == ("", "")
    assert watch.returncode == 0
