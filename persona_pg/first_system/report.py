"""What an import did, file by file: counts, and a reason for everything that was left out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

# So many examples of one reason are named; the rest is counted.
_EXAMPLES = 5


@dataclass
class FileReport:
    """One file, or one table, of the first system."""

    name: str
    imported: int = 0
    held: int = 0
    requeued: int = 0
    changed: int = 0
    unchanged: int = 0
    # Why the whole of it was left out: it is broken, or the database refused it.
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    _skipped: dict[str, list[str]] = field(default_factory=dict)
    _skipped_counts: dict[str, int] = field(default_factory=dict)

    def skip(self, what: str, reason: str) -> None:
        """Leave something out, and say why."""
        examples = self._skipped.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(what)
        self._skipped_counts[reason] = self._skipped_counts.get(reason, 0) + 1

    @property
    def skipped(self) -> list[tuple[int, str, list[str]]]:
        """Return count, reason and some examples of what was left out."""
        return [(self._skipped_counts[why], why, names) for why, names in self._skipped.items()]

    def copy(self) -> FileReport:
        """Return a report to go on with that leaves this one as it is."""
        return deepcopy(self)

    def become(self, other: FileReport) -> None:
        """Take over everything from another report of the same file."""
        vars(self).update(vars(other))

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "file": self.name,
            "imported": self.imported,
            "held": self.held,
            "requeued": self.requeued,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "skipped": [
                {"count": count, "reason": reason, "examples": names}
                for count, reason, names in self.skipped
            ],
            "notes": self.notes,
            "error": self.error,
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        if self.error is not None:
            return [f"{self.name}: nothing imported: {self.error}"]
        counts = [
            f"{count} {word}"
            for count, word in (
                (self.imported, "imported"),
                (self.held, "of them held"),
                (self.requeued, "of them queued"),
                (self.changed, "changed"),
                (self.unchanged, "there already"),
            )
            if count
        ]
        shown = [f"{self.name}: {', '.join(counts) or 'nothing to import'}"]
        for count, reason, names in self.skipped:
            more = ", ..." if count > len(names) else ""
            shown.append(f"  skipped {count}: {reason} ({', '.join(names)}{more})")
        shown.extend(f"  {note}" for note in self.notes)
        return shown


@dataclass
class Report:
    """A whole import."""

    files: list[FileReport] = field(default_factory=list)

    def add(self, name: str) -> FileReport:
        """Begin with one more file."""
        self.files.append(FileReport(name))
        return self.files[-1]

    @property
    def is_complete(self) -> bool:
        """Tell whether no file was broken or refused."""
        return all(one.error is None for one in self.files)
