"""Notes are read while others write them, and changed without disturbing anybody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
import yaml

from persona_pg.model import NoteAnswer, NoteLink
from persona_pg.notes import files
from persona_pg.notes.answers import render
from persona_pg.notes.links import linked
from persona_pg.notes.markers import parse

JOB = UUID("01a21aa0-be63-784f-8742-08ff74792745")


# -- reading


def test_what_is_no_note_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "file").write_text("x")

    for name in ("pipe.md", "folder.md"):
        with pytest.raises(files.Unreadable):
            files.read(tmp_path / name)
    assert files.read(tmp_path / "nowhere.md") is None
    assert files.read(tmp_path / "file" / "x.md") is None


def test_a_note_of_more_than_fifty_megabytes_is_not_read(tmp_path):
    with (tmp_path / "large.md").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)

    with pytest.raises(files.Unreadable, match="larger than 50 MB"):
        files.read(tmp_path / "large.md")


def test_notes_that_come_and_go_while_they_are_read(tmp_path):
    path = tmp_path / "note.md"
    code = (
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\nq = p.with_suffix('.new')\n"
        "while True:\n"
        " q.write_bytes(b'- [?] a\\n' * 1000); q.rename(p)\n p.unlink()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        try:
            seen = [files.read(path) for _ in range(2000)]
        finally:
            writer.kill()

    sizes = {None if content is None else len(content.data) for content in seen}
    assert sizes <= {None, 8000}


# -- writing


def test_a_new_file_is_created_once(tmp_path):
    path = tmp_path / "a" / "b.md"

    assert files.create(path, b"one")
    assert not files.create(path, b"two")
    assert path.read_bytes() == b"one"
    assert [file.name for file in path.parent.iterdir()] == ["b.md"]


def test_a_change_keeps_mode_and_symbolic_link(tmp_path):
    note, link = tmp_path / "note.md", tmp_path / "link.md"
    note.write_bytes(b"old")
    note.chmod(0o640)
    link.symlink_to(note)

    assert files.replace(link, files.read(link), b"new")
    assert link.is_symlink()
    assert note.read_bytes() == b"new"
    assert stat.S_IMODE(note.stat().st_mode) == 0o640
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("how", ["written", "touched", "replaced", "deleted"])
def test_a_note_that_somebody_else_has_changed_is_left_alone(tmp_path, how):
    note = tmp_path / "note.md"
    note.write_bytes(b"old")
    content = files.read(note)
    if how == "written":
        note.write_bytes(b"new")
        os.utime(note, ns=(content.signature[3], content.signature[3]))
    elif how == "touched":
        os.utime(note, ns=(0, 0))
    elif how == "replaced":
        (tmp_path / "other").write_bytes(b"old")
        (tmp_path / "other").replace(note)
    else:
        note.unlink()
    before = note.read_bytes() if note.exists() else None

    assert not files.replace(note, content, b"ours")
    assert (note.read_bytes() if note.exists() else None) == before
    assert not list(tmp_path.glob(".persona-*"))


# -- the link at the marker


def link_to(text, number=0, path="E/74792745-research.md"):
    marker = parse(text)[number]
    return NoteLink(
        job_id=JOB, kind=marker.kind, path="n.md", line=marker.line, marker=marker.digest,
        answer_path=path,
    )  # fmt: skip


LINK = "[[E/74792745-research|answer]]"


@pytest.mark.parametrize(
    "old, new",
    [
        ("- [?] Why?", f"- ~~[?] Why?~~ {LINK}"),
        ("\t* [A] do", f"\t* ~~[A] do~~ {LINK}"),
        ("[CB?] /x - why", f"~~[CB?] /x - why~~ {LINK}"),
        ("1. [?]Why?  ", f"1. ~~[?]Why?~~ {LINK}  "),
        ("- [?] Why? ^id", f"- ~~[?] Why?~~ {LINK} ^id"),
        ("[M] Standup", f"[M] Standup {LINK}"),
        ("## Meetings\n- [ ] Standup ^id", f"## Meetings\n- [ ] Standup {LINK} ^id"),
        ("## Meetings\n### Standup", f"## Meetings\n### Standup {LINK}"),
    ],
)
def test_only_the_marked_line_changes(old, new):
    before, after = "\ufeff[?] other\r\n\r\nmixed ends\n", "\r\nno end \xff".encode("latin-1")

    data = before.encode() + old.encode() + after
    assert linked(data, link_to(old)) == before.encode() + new.encode() + after
    # And it asks nothing new.
    answered = parse(new)[-1]
    assert answered.digest == parse(old)[-1].digest
    assert answered.answered or answered.kind == "M"


@pytest.mark.parametrize(
    "now", ["- [?] Why not?", "- ~~[?] Why?~~", "", "```\n- [?] Why?\n```", "- [Q] Why?"]
)
def test_a_line_that_is_not_as_it_was_is_left_alone(now):
    assert linked(now.encode(), link_to("- [?] Why?")) is None


@pytest.mark.parametrize("line", ["[?] was ~~this~~ it?", "[?] a %% b %% c", "[?] <!-- x --> a"])
def test_a_line_that_would_have_to_be_taken_apart_is_left_alone(line):
    assert linked(line.encode(), link_to(line)) is None


def test_a_line_of_broken_utf8_is_left_alone():
    data = b"- [?] a\xff"

    assert linked(data, link_to(files.decode(data))) is None


def test_of_equal_lines_the_nearest_is_linked():
    text = "[?] a\n\n\n[?] a"

    assert linked(text.encode(), link_to(text, 1)) == f"[?] a\n\n\n~~[?] a~~ {LINK}".encode()


# -- the note with the answer

NASTY = [
    "plain",
    'a: "b" # c',
    "- x\n---\ny: [1",
    "\x00\x1b\x7f\x85\u2028\ufeff\ufffe tab\t",
    "emoji 🏢 \\ back \\u0041",
    "null",
    "2026-03-02",
]


@pytest.mark.parametrize("text", NASTY)
def test_front_matter_says_exactly_what_was_asked(text):
    answer = NoteAnswer(
        job_id=JOB, short_id="74792745", job_type="research", agent="a: b", business=text,
        kind="?", question=text, path="Daily/2026-03-02.md", line=3, folder="E",
        file_name="74792745-research", completed_at=datetime(2026, 3, 2, 12, tzinfo=UTC),
        result={"text": "So.\n---\nnot: front matter\n"},
    )  # fmt: skip
    _, head, body = render(answer).split("---\n", 2)
    found = yaml.safe_load(head)

    assert (found["question"], found["business"], found["agent"]) == (text, text, "a: b")
    assert (found["type"], str(found["date"])) == ("research", "2026-03-02")
    assert (found["source"], found["job"]) == ("[[Daily/2026-03-02]]", str(JOB))
    assert body == "\nSo.\n---\nnot: front matter\n"


@pytest.mark.parametrize(
    "result, body",
    [
        (None, "The job ended without an answer."),
        ({"text": " "}, '```json\n{\n  "text": " "\n}\n```'),
        ({"text": "\n  indented\n"}, "  indented"),
    ],
)
def test_an_answer_without_text(result, body):
    answer = NoteAnswer(
        job_id=JOB, short_id="74792745", job_type="research", agent="a", business=None, kind="?",
        question=None, path="x.md", line=3, folder="E", file_name="f",
        completed_at=datetime(2026, 3, 2, 12, tzinfo=UTC), result=result,
    )  # fmt: skip

    assert render(answer).split("---\n\n")[1] == f"{body}\n"
