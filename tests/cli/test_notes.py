"""persona notes, as a person and a service use it: real notes, real processes."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest


def day(days_ago=0):
    return (datetime.now().astimezone() - timedelta(days=days_ago)).date()


class VaultFolder:
    def __init__(self, root):
        self.root = root
        (root / ".obsidian").mkdir(parents=True)
        (root / "Daily").mkdir()
        (root / ".obsidian" / "daily-notes.json").write_text('{"folder": "Daily"}')

    def note(self, days_ago=0):
        return self.root / "Daily" / f"{day(days_ago)}.md"

    def files(self):
        found = (file.relative_to(self.root) for file in self.root.rglob("*") if file.is_file())
        return sorted(str(file) for file in found if ".obsidian" not in file.parts)


@pytest.fixture
def vault(tmp_path, persona_env):
    found = VaultFolder(tmp_path / "My vault")
    persona_env["PERSONA_VAULT_PATH"] = str(found.root)
    return found


@pytest.fixture
def scanned(vault, cli):
    """A vault that has been scanned before."""
    vault.note(1).write_text("nothing\n")
    assert cli("notes", "scan").returncode == 0
    return vault


def answer(runner, text="So."):
    job = runner.claim()
    assert runner.end(job, result={"text": text}) == "ok"
    return str(job[0])


def test_the_first_scan_lists_and_creates_with_yes(vault, cli, queue):
    vault.note().write_text("## Acme\n- [?] Why?\n- [A] tidy\n- ~~[?] old~~\n")

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

    listed = cli("notes")
    assert listed.returncode == 0
    assert "pending" in listed.stdout
    rows = [json.loads(line) for line in cli("notes", "status", "--jsonl").stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["?", "A", "?"]


def test_only_todays_and_yesterdays_notes_are_scanned_unless_asked(scanned, cli, queue):
    for days in range(1, 5):
        scanned.note(days).write_text(f"[?] {days}\n")

    cli("notes", "scan")
    assert [job.task_preview for job in queue.list_jobs()] == ["1"]
    cli("notes", "scan", "--since", str(day(3)))
    assert sorted(job.task_preview for job in queue.list_jobs()) == ["1", "2", "3"]


def test_a_scan_creates_no_note_and_minds_none_that_is_missing(scanned, cli):
    before = scanned.files()
    assert cli("notes", "scan", "--since", "2026-01-01").returncode == 0
    assert scanned.files() == before


def test_an_answer_comes_back_as_a_new_note_and_is_linked_where_that_is_wanted(
    scanned, cli, runner, queue
):
    text = "\ufeffhead\r\n- [?] Why?\r\n[M] Standup\r\ntail"
    scanned.note().write_bytes(text.encode())
    scanned.note().chmod(0o640)
    cli("notes", "scan")
    short, meeting = (answer(runner)[-8:] for _ in range(2))
    taken = scanned.root / "Resources/General/Embeds" / f"{short}-research.md"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")

    done = cli("notes", "scan")
    assert scanned.note().read_bytes() == text.encode()
    assert taken.read_text() == "mine"
    written = taken.with_name(f"{short}-research-2.md").read_text()
    assert written.startswith('---\ntype: "research"\nquestion: "Why?"\n')
    assert written.endswith("---\n\nSo.\n")
    assert (scanned.root / "Meetings" / f"{meeting}-meeting_extract.md").is_file()
    assert done.stdout.count("written: ") == 2
    files = scanned.files()

    cli("notes", "scan", "--write-back")
    assert scanned.note().read_bytes().decode() == (
        f"\ufeffhead\r\n- ~~[?] Why?~~ [[Resources/General/Embeds/{short}-research-2|answer]]\r\n"
        f"[M] Standup [[Meetings/{meeting}-meeting_extract|answer]]\r\ntail"
    )
    assert scanned.note().stat().st_mode & 0o777 == 0o640
    again = cli("notes", "scan", "--write-back")
    assert again.stdout == ""
    assert scanned.files() == files
    assert len(queue.list_jobs()) == 2


def test_an_answer_that_was_written_but_not_recorded_is_not_written_again(
    scanned, cli, runner, conn
):
    scanned.note().write_text("[?] Why?\n")
    cli("notes", "scan")
    answer(runner)
    cli("notes", "scan")
    files = scanned.files()
    conn.execute("update persona.note_markers set answer_path = null")

    cli("notes", "scan")
    assert scanned.files() == files
    assert conn.execute("select answer_path from persona.note_markers").fetchone() == (files[-1],)

    (scanned.root / files[-1]).unlink()
    cli("notes", "scan")
    assert len(scanned.files()) == len(files) - 1


def test_two_scanners_at_once_make_one_job_a_line_and_one_file_an_answer(
    scanned, cli, runner, queue
):
    scanned.note().write_text("".join(f"- [?] {n}\n" for n in range(10)))

    def scan(_):
        return cli("notes", "scan").returncode

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(scan, range(3))) == [0, 0, 0]
        assert len(queue.list_jobs()) == 10
        for _ in range(10):
            answer(runner)
        assert list(pool.map(scan, range(3))) == [0, 0, 0]
    assert len(scanned.files()) == 2 + 10


def test_what_cannot_be_read_is_said_and_the_rest_is_done(scanned, cli, queue):
    scanned.note(1).unlink()
    os.mkfifo(scanned.note(1))
    scanned.note().write_text(f"- [?] Why?\n- [?] {'x' * 11_000}\n")

    done = cli("notes", "scan")
    assert done.returncode == 1
    assert "it is no file" in done.stderr
    assert ":2: longer than 10000 characters" in done.stderr
    assert [job.task_preview for job in queue.list_jobs()] == ["Why?"]


def test_an_answer_folder_that_cannot_be_is_said(scanned, cli, runner, conn):
    conn.execute("select persona.set_setting('note_answer_folder', '\"../elsewhere\"')")
    scanned.note().write_text("[?] Why?\n")
    cli("notes", "scan")
    answer(runner)

    done = cli("notes", "scan")
    assert done.returncode == 1
    assert "is not written" in done.stderr
    assert "not inside the vault" in done.stderr


@pytest.mark.no_database
def test_a_vault_that_is_not_set_or_not_there_is_a_matter_of_configuration(cli):
    for arguments, said in (((), "PERSONA_VAULT_PATH"), (("--vault", "/nowhere"), "/nowhere")):
        done = cli("notes", "scan", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
        assert said in done.stderr


def test_watching(scanned, popen, queue, runner, eventually):
    scanned.note().write_text("[?] first\n")
    watch = popen("notes", "watch", "--settle", "100ms", "--write-back", "--jsonl")
    eventually(lambda: len(queue.list_jobs()) == 1)

    with scanned.note().open("a") as file:
        file.write("[?] second\n")
    eventually(lambda: len(queue.list_jobs()) == 2)
    for _ in range(2):
        answer(runner)
    eventually(lambda: scanned.note().read_text().count("|answer]]") == 2)

    watch.send_signal(signal.SIGTERM)
    out, err = watch.communicate(timeout=10)
    assert watch.returncode == 0
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert sorted(events) == ["answered"] * 2 + ["created"] * 2 + ["linked"] * 2
    assert err.count("\n") == 1
