"""From a note to a job to an answer in the vault, with a real database and real files."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqltest import Queue as SqlQueue

from persona_pg.database import Database
from persona_pg.notes.answers import write_answers
from persona_pg.notes.links import write_links
from persona_pg.notes.scan import scan
from persona_pg.notes.vault import Vault, days_to_scan
from persona_pg.queue import Queue


class World:
    """A vault that has been scanned before, its database, and a runner played by hand."""

    def __init__(self, root, dsn, conn):
        self.root = root
        (root / ".obsidian").mkdir(parents=True)
        (root / "Daily").mkdir()
        (root / ".obsidian" / "daily-notes.json").write_text('{"folder": "Daily"}')
        self.vault = Vault.open(root)
        self.dsn = dsn
        self.queue = Queue(Database(dsn))
        self.sql = SqlQueue(conn)
        self.runner = self.sql.runner()
        self.note(1).write_text("nothing\n")
        self.scan()

    def day(self, ago):
        return (datetime.now().astimezone() - timedelta(days=ago)).date()

    def note(self, days_ago=0):
        return self.root / "Daily" / f"{self.day(days_ago)}.md"

    def scan(self, since=None, queue=None):
        return scan(queue or self.queue, self.vault, days_to_scan(since))

    def answer(self):
        """Let the next job end; return its short id."""
        [run] = self.sql.claim(self.runner)
        self.sql.report(self.runner, run, result={"text": "So."})
        return run["short_id"]

    def questions(self):
        return sorted(job.task_preview for job in self.queue.list_jobs())

    def files(self):
        found = (file.relative_to(self.root) for file in self.root.rglob("*") if file.is_file())
        return sorted(str(file) for file in found if ".obsidian" not in file.parts)


@pytest.fixture
def world(tmp_path, dsn, conn):
    made = World(tmp_path / "My vault", dsn, conn)
    yield made
    made.queue.close()


def test_only_todays_and_yesterdays_notes_are_scanned_unless_asked(world):
    before = world.files()
    world.scan(world.day(100))
    assert world.files() == before

    for days in range(1, 5):
        world.note(days).write_text(f"[?] {days}\n")
    world.scan()
    assert world.questions() == ["1"]
    world.scan(world.day(3))
    assert world.questions() == ["1", "2", "3"]


def test_an_answer_comes_back_as_a_new_note_and_is_linked_where_that_is_wanted(world):
    text = "\ufeffhead\r\n- [?] Why?\r\n[M] Standup\r\ntail"
    world.note().write_bytes(text.encode())
    world.note().chmod(0o640)
    world.scan()
    short, meeting = world.answer(), world.answer()
    folder = world.root / "Resources/General/Embeds"
    folder.mkdir(parents=True)
    (folder / f"{short}-research.md").write_text("mine")

    written = write_answers(world.queue, world.vault)
    assert write_links(world.queue, world.vault) == []
    assert world.note().read_bytes() == text.encode()
    assert (folder / f"{short}-research.md").read_text() == "mine"
    answer = (folder / f"{short}-research-2.md").read_text()
    assert answer.startswith('---\ntype: "research"\nquestion: "Why?"\n')
    assert answer.endswith("---\n\nSo.\n")
    assert written[1].path == f"Meetings/{meeting}-meeting_extract.md"
    files = world.files()

    assert len(write_links(world.queue, world.vault, write_back=True)) == 2
    assert world.note().read_bytes().decode() == (
        f"\ufeffhead\r\n- ~~[?] Why?~~ [[Resources/General/Embeds/{short}-research-2|answer]]\r\n"
        f"[M] Standup [[Meetings/{meeting}-meeting_extract|answer]]\r\ntail"
    )
    assert stat.S_IMODE(world.note().stat().st_mode) == 0o640
    assert {line.action for line in world.scan().lines} == {"answered", "known"}
    assert write_answers(world.queue, world.vault) == []
    assert write_links(world.queue, world.vault, write_back=True) == []
    assert world.files() == files


def test_an_answer_that_was_written_but_not_recorded_is_not_written_again(world):
    world.note().write_text("[?] Why?\n")
    world.scan()
    world.answer()
    [first] = write_answers(world.queue, world.vault)
    files = world.files()
    world.sql.run("update persona.note_markers set answer_path = null")

    [again] = write_answers(world.queue, world.vault)
    assert (again.path, world.files()) == (first.path, files)

    # And one that a person has deleted does not come back.
    (world.root / first.path).unlink()
    assert write_answers(world.queue, world.vault) == []
    assert first.path not in world.files()


def test_a_link_waits_for_its_note_and_creates_none(world):
    world.note().write_text("[?] Why?\n")
    world.scan()
    world.answer()
    write_answers(world.queue, world.vault)
    world.note().unlink()

    assert write_links(world.queue, world.vault, write_back=True) == []
    assert not world.note().exists()
    world.note().write_text("later\n[?] Why?\n")
    [link] = write_links(world.queue, world.vault, write_back=True)
    assert world.note().read_text() == f"later\n~~[?] Why?~~ [[{link.answer_path[:-3]}|answer]]\n"


def test_two_scanners_at_once_make_one_job_a_line_and_one_file_an_answer(world):
    world.note().write_text("".join(f"- [?] {n}\n" for n in range(10)))
    others = [Queue(Database(world.dsn)) for _ in range(4)]

    with ThreadPoolExecutor() as pool:
        scans = list(pool.map(lambda queue: world.scan(queue=queue), others))
        assert sum(len(done.having("created")) for done in scans) == len(world.questions()) == 10
        for _ in range(10):
            world.answer()
        written = pool.map(lambda queue: write_answers(queue, world.vault), others)
        assert sum(map(len, written)) == 10
    assert len(world.files()) == 2 + 10
    for queue in others:
        queue.close()


def test_what_cannot_be_read_is_said_and_the_rest_is_done(world):
    world.note(1).unlink()
    os.mkfifo(world.note(1))
    world.note().write_text(f"- [?] Why?\n- [?] {'x' * 11_000}\n")

    complaints = world.scan().complaints()
    assert ["it is no file" in words for words in complaints] == [False, True]
    assert ":2: longer than 10000 characters" in complaints[0]
    assert world.questions() == ["Why?"]


def test_an_answer_folder_outside_the_vault_is_refused(world):
    world.sql.run("select persona.set_setting('note_answer_folder', '\"../elsewhere\"')")
    world.note().write_text("[?] Why?\n")
    world.scan()
    world.answer()

    [answer] = write_answers(world.queue, world.vault)
    assert "not inside the vault" in answer.complaint()
    assert not (world.root.parent / "elsewhere").exists()


def test_the_database_and_the_scanner_hash_a_line_alike(world):
    world.note().write_text(
        "[?] a\u00a0b\u200b\u3000c \u180e d\n[CB?] /x - y\n[?] Zu\u0308rich 🏢\n[?] \\ ' \" {}\n"
    )
    world.scan()
    for _ in range(4):
        world.answer()
    write_answers(world.queue, world.vault)

    assert len(write_links(world.queue, world.vault, write_back=True)) == 4
