"""What `persona notes watch` prints as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from persona_pg.cli import documents, output
from persona_pg.cli.edge import say

if TYPE_CHECKING:
    from persona_pg.model import NoteLink
    from persona_pg.notes.answers import Written
    from persona_pg.notes.scan import Scan


class Teller:
    """Prints a line, or a JSON object, for each event; what needs a person goes to stderr."""

    def __init__(self, *, as_jsonl: bool) -> None:
        self._as_jsonl = as_jsonl

    def scanned(self, done: Scan) -> None:
        """Tell what a scan has done."""
        for line in done.having("created", "cancelled", "moved"):
            where = f"{line.path}:{line.line}"
            self._tell(line.action, line, f"{line.action} {line.short_id}: {where} {line.question}")
        for words in done.complaints():
            say(output.clean(words))
        if waiting := done.having("would_create"):
            reason = waiting[0].reason
            say(f"{len(waiting)} new, waiting for: persona notes scan --yes ({reason})")

    def written(self, answers: list[Written]) -> None:
        """Tell of answers."""
        for answer in answers:
            if answer.problem:
                say(output.clean(answer.complaint()))
            else:
                words = f"answer to {answer.short_id} written: {answer.path}"
                self._tell("answered", answer, words)

    def linked(self, links: list[NoteLink]) -> None:
        """Tell of links."""
        for link in links:
            words = f"linked {link.path}:{link.line} to {link.answer_path}"
            self._tell("linked", link, words)

    def trouble(self, words: str) -> None:
        """Tell of trouble."""
        say(words)

    def _tell(self, event: str, row: Any, words: str) -> None:
        if self._as_jsonl:
            output.put_jsonl([{"event": event, **documents.of(row)}])
        else:
            output.put(output.clean(words))
        sys.stdout.flush()
