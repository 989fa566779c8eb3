"""Where the daily notes of a vault are."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from persona_pg.errors import ConfigurationError
from persona_pg.notes.moment import format_date

_DEFAULT_FORMAT = "YYYY-MM-DD"
_CORE = ".obsidian/daily-notes.json"
_PERIODIC = ".obsidian/plugins/periodic-notes/data.json"
SETTINGS_FILES = (_CORE, _PERIODIC)


@dataclass(frozen=True)
class Vault:
    """A vault with the settings of its daily notes."""

    root: Path
    name: str
    folder: str = ""
    format: str = _DEFAULT_FORMAT

    @classmethod
    def open(cls, root: Path, name: str | None = None) -> Vault:
        """Read a vault's settings; ConfigurationError names what is wrong with them."""
        root = root.expanduser()
        if not root.is_dir():
            raise ConfigurationError(f"the vault {root} is no folder; see --vault")
        root = root.resolve()
        folder, pattern = _settings(root)
        # A name that was typed on a Mac is written in other characters than on Linux.
        name = unicodedata.normalize("NFC", name or root.name)
        return cls(root, name, folder, pattern)

    def daily_note(self, day: date) -> str:
        """Return the path of a day's note inside the vault."""
        path = f"{self.folder}/{format_date(day, self.format)}.md"
        return inside(path, f"the daily note of {day}")

    def path(self, inner: str) -> Path:
        """Return where a path inside the vault is on this machine."""
        found = self.root / inner
        if not found.exists():
            # As a Mac writes it, and as it stays when it is copied from there.
            other = self.root / unicodedata.normalize("NFD", inner)
            if other.exists():
                return other
        return found


def inside(path: str, what: str) -> str:
    """Clean a path inside the vault; refuse one that leads out of it."""
    parts = PurePosixPath(path.replace("\\", "/").strip("/")).parts
    if ".." in parts or not parts or "\0" in path:
        raise ConfigurationError(f"{what} would be {path!r}, which is not inside the vault")
    return unicodedata.normalize("NFC", "/".join(parts))


def today() -> date:
    """Return today's date where the person is, not in UTC."""
    return date.today()  # noqa: DTZ011 - the local date is what daily notes are named after


def days_to_scan(since: date | None, now: date | None = None) -> list[date]:
    """Return today and yesterday, or every day since a date, the latest first."""
    now = now or today()
    first = now - timedelta(days=1) if since is None else min(since, now)
    return [now - timedelta(days=n) for n in range((now - first).days + 1)]


def _settings(root: Path) -> tuple[str, str]:
    """Return folder and format of the daily notes: Obsidian's own, else Periodic Notes'."""
    where, found = _CORE, _read(root, _CORE)
    if not found:
        daily = _read(root, _PERIODIC).get("daily")
        if isinstance(daily, dict) and daily.get("enabled", True):
            where, found = _PERIODIC, daily
    folder, pattern = found.get("folder") or "", found.get("format") or _DEFAULT_FORMAT
    if not isinstance(folder, str) or not isinstance(pattern, str):
        raise ConfigurationError(f"{root / where}: folder and format must be texts")
    try:
        inside(f"{folder}/{format_date(date(2000, 1, 1), pattern)}", f"{where}: a daily note")
    except ValueError as exc:
        raise ConfigurationError(f"{root / where}: format {pattern!r}: {exc}") from None
    return folder.strip("/"), pattern


def _read(root: Path, name: str) -> dict[str, Any]:
    try:
        text = (root / name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{root / name} cannot be read: {exc}") from None
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"{root / name} is no valid JSON: {exc}") from None
    return found if isinstance(found, dict) else {}
