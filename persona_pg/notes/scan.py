"""A scan: read the daily notes, hand their marked lines to the queue, write what is answered."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona_pg.notes import files, markers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from persona_pg.model import NoteLine
    from persona_pg.notes.vault import Vault
    from persona_pg.queue import Queue


def this_machine() -> str:
    """Return the name under which this machine's copy of a vault is known."""
    return socket.gethostname()


@dataclass
class Reading:
    """What was read: the notes as intake_notes wants them, and what could not be."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scan:
    """A scan's outcome."""

    notes: int
    problems: list[str]
    lines: list[NoteLine]

    def having(self, *actions: str) -> list[NoteLine]:
        """Return the lines about which this was done."""
        return [line for line in self.lines if line.action in actions]

    def complaints(self) -> list[str]:
        """Say what could not be read, and which lines were refused."""
        refused = self.having("refused")
        return self.problems + [f"{line.path}:{line.line}: {line.reason}" for line in refused]


def read_notes(vault: Vault, days: Iterable[date]) -> Reading:
    """Read the notes of these days; one that is not there, or goes meanwhile, is no problem."""
    found = Reading()
    for day in days:
        path = vault.daily_note(day)
        try:
            content = files.read(vault.path(path))
        except files.Unreadable as exc:
            found.problems.append(f"{path}: {exc}")
            continue
        if content is not None:
            found.notes.append(_document(day, path, content, found.problems))
    return found


def _document(day: date, path: str, content: files.Content, problems: list[str]) -> dict[str, Any]:
    """Return a note as the database gets it: its marked lines and a hash, not its text."""
    marked = []
    for marker in markers.parse(content.text):
        if marker.is_too_long:
            problems.append(
                f"{path}:{marker.line}: longer than {markers.MAX_TEXT} characters, left out"
            )
        else:
            marked.append(marker.document())
    return {
        "path": path,
        "note": day.isoformat(),
        "sha256": hashlib.sha256(content.data).hexdigest(),
        "markers": marked,
    }


def scan(
    queue: Queue,
    vault: Vault,
    days: Iterable[date],
    *,
    business: str | None = None,
    confirmed: bool = False,
    dry_run: bool = False,
) -> Scan:
    """Read notes and make jobs of their marked lines, each once."""
    reading = read_notes(vault, days)
    lines: list[NoteLine] = []
    if reading.notes:
        lines = queue.intake_notes(
            vault.name,
            reading.notes,
            host=this_machine(),
            business=business,
            confirmed=confirmed,
            dry_run=dry_run,
        )
    return Scan(len(reading.notes), reading.problems, lines)
