"""The marked lines of a note: [?], [Q], [A], [CB?], [M], and the entries under ## Meetings."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona_pg.notes import lines as note_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

# A line that is longer is no question; it is reported and left out.
MAX_TEXT = 10_000
_MAX_SHORT = 1_000

_BULLET = r"(?:[-*+]|\d{1,9}\.)"
# Not [A](address), [A][reference] or [A]: address, which are links.
_MARKED = re.compile(
    rf"\s*(?:{_BULLET}[ \t]*)?(?P<struck>~~[ \t]*)?"
    r"\[(?P<kind>\?|A|Q|CB\?|M)\](?![(\[])(?P<text>.*)"
)
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
_ENTRY = re.compile(rf" ?{_BULLET}[ \t]+(.*)")
_CHECKBOX = re.compile(r"\[(.)\](?:[ \t]+|$)")
_MEETINGS = frozenset({"meetings", "meeting"})
_KEYCAP = re.compile("[0-9#*]\ufe0f?\u20e3")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_BLOCK_ID = re.compile(r" \^[A-Za-z0-9-]+$")
# What a write-back has put there: the link to SHORTID-TYPE.
_OWN_LINK = re.compile(r" ?\[\[[^\[\]|]*[0-9a-f]{8}-[a-z_]+(?:\|[^\[\]]*)?\]\]$")


@dataclass(frozen=True, slots=True)
class Marker:
    """One marked line.  *line* counts from 1; *heading* is the word that routes it."""

    kind: str
    text: str
    line: int
    heading: str = ""
    code_path: str | None = None
    answered: bool = False

    def document(self) -> dict[str, object]:
        """Return it as intake_notes wants it."""
        return {
            "kind": self.kind,
            "text": self.text,
            "line": self.line,
            "heading": self.heading,
            "code_path": self.code_path,
            "answered": self.answered,
        }

    @property
    def digest(self) -> str:
        """Hash of kind and text, as the database makes it."""
        path = f"{self.code_path} - " if self.code_path else ""
        return hashlib.sha256(f"{self.kind}\n{path}{self.text}".encode()).hexdigest()

    @property
    def is_too_long(self) -> bool:
        """Tell whether this is too much for a question."""
        return len(self.text) > MAX_TEXT or len(self.code_path or "") > _MAX_SHORT


def parse(text: str) -> list[Marker]:
    """Return the marked lines of a note, in their order."""
    return list(_markers(note_lines.split(text)))


def _markers(lines: list[str]) -> Iterator[Marker]:
    heading = ""
    in_meetings = has_titles = False
    for index, line in note_lines.visible(lines):
        level, title = _heading(line)
        if level:
            if level <= 2:
                in_meetings = has_titles = False
            if level == 2:
                heading = heading_word(title)
                in_meetings = heading in _MEETINGS
            elif in_meetings and level == 3:
                # Titles make the entries, and the lists below are their notes.
                has_titles = True
                yield from _entry(title, index, heading)
            continue
        if "[" in line and (match := _MARKED.match(line)) is not None:
            yield from _marked(match, index, heading)
        elif in_meetings and not has_titles and (match := _ENTRY.match(line)) is not None:
            yield from _entry(match[1], index, heading)


def _marked(match: re.Match[str], index: int, heading: str) -> Iterator[Marker]:
    kind, text = match["kind"], match["text"]
    if kind in "AQM" and text.startswith(":"):
        return
    answered = False
    if match["struck"] is not None:
        text, mark, _ = text.partition("~~")
        answered = bool(mark)
        if not answered:
            return  # two tildes that strike nothing: not ours to guess
    text, struck = _unstruck(tidy(text))
    code_path = None
    if kind == "CB?":
        code_path, text = _code_path(text)
    if text:
        yield Marker(kind, text, index + 1, heading, code_path, answered or struck)


def _entry(text: str, index: int, heading: str) -> Iterator[Marker]:
    checkbox = _CHECKBOX.match(text)
    if checkbox is not None:
        if checkbox[1] == "-":
            return  # cancelled
        text = text[checkbox.end() :]
    text, struck = _unstruck(tidy(text))
    if text:
        yield Marker("M", text, index + 1, heading, None, struck)


def tidy(text: str) -> str:
    """Write a text as it is compared: one space for many, no block id, no link of ours."""
    # Cut where it is too long anyway: ordering combining marks is not linear.
    text = unicodedata.normalize("NFC", text[: 2 * MAX_TEXT])
    text = _CONTROLS.sub("", " ".join(text.split()))
    return _OWN_LINK.sub("", _BLOCK_ID.sub("", text)).strip()


def _unstruck(text: str) -> tuple[str, bool]:
    """Take the tildes off a text that is struck through as a whole."""
    if text.startswith("~~") and text.endswith("~~") and len(text) > 4:
        inner = text[2:-2]
        if "~~" not in inner:
            return inner.strip(), True
    return text, False


def _code_path(text: str) -> tuple[str | None, str]:
    if not text.startswith(("/", "~/")):
        return None, text
    path, dash, question = text.partition(" - ")
    return (path.strip(), question.strip()) if dash else (None, text)


def _heading(line: str) -> tuple[int, str]:
    """Return level and text of a heading; level 0 for any other line."""
    match = _HEADING.match(line)
    if match is None:
        return 0, ""
    title = line[match.end() :].strip()
    unclosed = title.rstrip("#")
    if not unclosed or unclosed[-1] in " \t":
        title = unclosed.rstrip()
    return len(match[1]), title


def heading_word(title: str) -> str:
    """Return the first word of a heading, lower case and without emoji and punctuation."""
    text = unicodedata.normalize("NFC", _KEYCAP.sub(" ", title[:_MAX_SHORT]))
    start = next((i for i, char in enumerate(text) if char.isalnum()), len(text))
    words = text[start:].split(maxsplit=1)
    if not words:
        return ""
    word = words[0].lower()
    end = next((i for i in range(len(word), 0, -1) if word[i - 1].isalnum()), 0)
    return word[:end]
