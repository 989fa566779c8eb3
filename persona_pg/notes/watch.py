"""Watching the daily notes: a scan when one has changed, and answers as they come.

Two notes are looked at once a second, which costs two stat calls: no library is needed, it works
on every file system, and the day may change.  A change counts when the notes have been quiet for
a while, so that a question is not sent before it is typed.  Finished answers are told by the
database; the wait for them is the only timer there is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from persona_pg.errors import ConfigurationError, PersonaError
from persona_pg.notes import answers, files, links
from persona_pg.notes.news import News
from persona_pg.notes.scan import scan
from persona_pg.notes.vault import SETTINGS_FILES, Vault, days_to_scan

if TYPE_CHECKING:
    from datetime import date

    from persona_pg.model import NoteLink
    from persona_pg.notes.answers import Written
    from persona_pg.notes.scan import Scan
    from persona_pg.queue import Queue

Signatures = dict[str, tuple[int, ...] | None]

INTERVAL = 1.0
# The net only, where no notification gets through (a pooler in transaction mode).
_ANSWERS_EVERY = 60.0
# After an error that may pass.
_PAUSE = 10.0
_PASSING = frozenset({69, 75})


class Reports(Protocol):
    """Who is told what has happened."""

    def scanned(self, done: Scan) -> None:
        """Hear of a scan."""

    def written(self, answers: list[Written]) -> None:
        """Hear of answers."""

    def linked(self, links: list[NoteLink]) -> None:
        """Hear of lines that were linked to theirs."""

    def trouble(self, words: str) -> None:
        """Hear of what is tried again."""


class Watch:
    """Scans a vault's notes when they have changed; writes answers when they are there."""

    def __init__(
        self,
        queue: Queue,
        vault: Vault,
        reports: Reports,
        *,
        settle: float,
        business: str | None = None,
        write_back: bool | None = None,
    ) -> None:
        self._queue = queue
        self._vault = vault
        self._reports = reports
        self._settle = settle
        self._business = business
        self._write_back = write_back
        self._scanned: Signatures | None = None
        self._changed: Signatures | None = None
        self._changed_at = 0.0
        self._answers_at = 0.0
        self._quiet_until = 0.0
        self._trouble: str | None = None
        self._settings = self._settings_signatures()

    def run(self) -> None:
        """Watch until something ends the process."""
        news = News(self._queue.database.dsn, self._vault.name)
        try:
            while True:
                if news.wait(INTERVAL):
                    self._answers_at = 0.0
                self.look(time.monotonic())
        finally:
            news.close()

    def look(self, now: float) -> None:
        """Do what is due."""
        if now < self._quiet_until:
            return
        try:
            self._reopen()
            self._look_at_notes(now)
            self._look_for_answers(now)
        except (PersonaError, OSError) as exc:
            passing = isinstance(exc, OSError) or exc.exit_code in _PASSING
            if not passing and not isinstance(exc, ConfigurationError):
                raise
            self._quiet_until = now + _PAUSE
            self._tell_trouble(f"{exc}; trying again")
        else:
            self._trouble = None

    def _tell_trouble(self, words: str) -> None:
        if words != self._trouble:
            self._trouble = words
            self._reports.trouble(words)

    def _reopen(self) -> None:
        """Follow a change of Obsidian's settings."""
        found = self._settings_signatures()
        if found != self._settings:
            self._vault = Vault.open(self._vault.root, self._vault.name)
            self._settings = found

    def _settings_signatures(self) -> Signatures:
        return {name: files.signature(self._vault.root / name) for name in SETTINGS_FILES}

    def _look_at_notes(self, now: float) -> None:
        days = days_to_scan(None)
        found = self._signatures(days)
        if found == self._scanned:
            self._changed = None
            return
        if found != self._changed:
            self._changed, self._changed_at = found, now
        # At the start nobody is typing that we know of.
        if self._scanned is not None and now - self._changed_at < self._settle:
            return
        done = scan(self._queue, self._vault, days, business=self._business)
        # As they were before they were read: what has changed meanwhile is scanned again.
        self._scanned, self._changed = found, None
        self._answers_at = 0.0
        self._reports.scanned(done)

    def _signatures(self, days: list[date]) -> Signatures:
        paths = [self._vault.daily_note(day) for day in days]
        return {path: files.signature(self._vault.path(path)) for path in paths}

    def _look_for_answers(self, now: float) -> None:
        if now < self._answers_at:
            return
        written = answers.write_answers(self._queue, self._vault)
        if written:
            self._reports.written(written)
        linked = links.write_links(self._queue, self._vault, write_back=self._write_back)
        if linked:
            self._reports.linked(linked)
        self._answers_at = now + _ANSWERS_EVERY
