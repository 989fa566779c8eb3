"""Write-back: a marked line is struck through and linked to its answer, and nothing else changes.

The note is read, the line is found by its hash and compared, and the new content replaces the
file only if that is still what was read.  Ends of lines, byte order mark, mode and every other
byte stay as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from persona_pg.notes import files, markers

if TYPE_CHECKING:
    from persona_pg.model import NoteLink
    from persona_pg.notes.vault import Vault
    from persona_pg.queue import Queue

_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_MARK = re.compile(
    r"(?P<before>.*?)(?P<mark>\[(?:\?|A|Q|CB\?)\].*?)(?P<after>(?: \^[A-Za-z0-9-]+)?\s*)"
)
_ENTRY = re.compile(r"(?P<entry>.*?)(?P<after>(?: \^[A-Za-z0-9-]+)?\s*)")
_TRIES = 3


def write_links(queue: Queue, vault: Vault, *, write_back: bool | None = None) -> list[NoteLink]:
    """Link lines to their answers where that is wanted; what cannot be now is tried again."""
    done = []
    for link in queue.note_links(vault.name, write_back=write_back):
        if _write(vault, link):
            queue.record_note_link(vault.name, link.job_id)
            done.append(link)
    return done


def _write(vault: Vault, link: NoteLink) -> bool:
    path = vault.path(link.path)
    for _ in range(_TRIES):
        try:
            content = files.read(path)
        except files.Unreadable:
            return False
        if content is None:
            return False  # a daily note is never created
        data = linked(content.data, link)
        if data is None:
            return False
        try:
            if files.replace(path, content, data):
                return True
        except OSError:
            return False
    return False


def linked(data: bytes, link: NoteLink) -> bytes | None:
    """Return a note with the line linked; None where the line is not there as it was asked."""
    found = [
        marker
        for marker in markers.parse(files.decode(data))
        if marker.digest == link.marker and not marker.answered
    ]
    if not found:
        return None
    line = min(found, key=lambda marker: abs(marker.line - link.line)).line
    lines = _LINES.findall(data)
    old = lines[line - 1]
    bare = old.rstrip(b"\r\n")
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        return None  # it could not be written again as it is
    new = _linked_line(text, link)
    if new is None:
        return None
    lines[line - 1] = new.encode() + old[len(bare) :]
    return b"".join(lines)


def _linked_line(text: str, link: NoteLink) -> str | None:
    target = f"[[{link.answer_path.removesuffix('.md')}|answer]]"
    if link.kind == "M":
        match = _ENTRY.fullmatch(text)
        return match and f"{match['entry'].rstrip()} {target}{match['after']}"
    match = _MARK.fullmatch(text)
    if match is None or "~~" in text or "%%" in text or "<!--" in text:
        # Tildes within tildes, or around a comment: not to be taken apart by us.
        return None
    mark = match["mark"].rstrip()
    return f"{match['before']}~~{mark}~~ {target}{match['after']}"
