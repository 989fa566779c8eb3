"""Reading the first system's files: whole or not at all, and never with a guess at the meaning."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from persona_pg.errors import ConfigurationError, one_line

if TYPE_CHECKING:
    from pathlib import Path

# Of everything that is imported: the same thing has the same id in every run and on every machine.
_NAMESPACE = UUID("6f1b8a52-9c1e-5b6e-8d0a-3b7f5f0c7a11")
_MOST_BYTES = 200 << 20
_MILLISECONDS_FROM = 100_000_000_000  # a number of seconds this large would be in the year 5138
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class BrokenFile(Exception):
    """The file cannot be taken over; the message says why."""


@dataclass(frozen=True)
class Instance:
    """One business of the first system, and the folder that holds its state."""

    business: str
    path: Path


def instances(root: Path, only: str | None, first: str | None) -> list[Instance]:
    """List the instances under PERSONA_ROOT; that of PERSONA_BUSINESS comes first."""
    folder = root / "instances"
    if folder.is_dir():
        found = [Instance(p.name, p) for p in sorted(folder.iterdir()) if p.is_dir()]
    elif (root / "state").is_dir() or (root / "agents").is_dir():
        found = [Instance(first or root.name, root)]
    else:
        found = []
    if not found:
        raise ConfigurationError(
            f"--persona-root: '{root}' holds no first system:"
            " there is neither a folder 'instances' in it nor 'state' or 'agents'"
        )
    if only is not None:
        names = ", ".join(i.business for i in found)
        found = [i for i in found if i.business == only]
        if not found:
            raise ConfigurationError(
                f"--business: there is no instance {only!r}; there are {names}"
            )
    return sorted(found, key=lambda i: i.business != first)


def read_text(path: Path) -> str:
    """Read a file as UTF-8."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BrokenFile(f"it is larger than {_MOST_BYTES >> 20} MB")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise BrokenFile(f"it cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise BrokenFile(f"it is not UTF-8 (byte {exc.start})") from exc


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as exc:
        raise BrokenFile(f"it is not JSON: {one_line(str(exc))}") from exc


def read_yaml(text: str) -> Any:
    """Read YAML; only plain data, no tags that make objects."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigurationError(
            "reading YAML needs PyYAML: pip install 'persona-pg[migrate]'"
        ) from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise BrokenFile(f"it is not YAML: {one_line(str(exc))}") from exc


def front_matter(path: Path) -> tuple[dict[str, Any], str] | None:
    """Return the YAML between the two lines of dashes, and the text below; None without them."""
    text = read_text(path).replace("\r\n", "\n")
    match = re.match(r"---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|$)", text, re.DOTALL)
    if match is None:
        if text.startswith("---"):
            raise BrokenFile("its front matter has no end")
        return None
    fields = read_yaml(match[1] or "")
    if not isinstance(fields, dict):
        raise BrokenFile("its front matter is no list of 'name: value' lines")
    return fields, text[match.end() :].strip()


def entries(document: Any, *keys: str) -> list[dict[str, Any]]:
    """Return the list of records of a document, which is that list or holds it under a key."""
    found = document
    if isinstance(document, dict):
        found = next((document[key] for key in keys if key in document), None)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BrokenFile(f"there is no list of records in it (looked for: {', '.join(keys)})")
    return found


def first(record: dict[str, Any], *names: str) -> Any:
    """Return the first of these fields that says something."""
    return next((record[n] for n in names if record.get(n) not in (None, "")), None)


def moment(value: Any) -> datetime | None:
    """Read a time: ISO 8601 (without a zone it is UTC, as the first system wrote), or a number."""
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
        read = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def name(value: Any) -> str:
    """Write a name the way agents are named here: lower case, no blanks."""
    return re.sub(r"[^a-z0-9_.-]+", "-", str(value).strip().lower()).strip("-.")[:63]


def clean(value: Any) -> Any:
    """Replace what PostgreSQL cannot store in text."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value


def imported_id(created_at: datetime, what: str, short_id: Any = None) -> UUID:
    """Make the id of something imported: always the same, and in the order of time like ours.

    Ids are read in their order (newest first, older than), which the first system's random ones
    would break.  A short id of it is kept: people have it in their notes.
    """
    digest = uuid5(_NAMESPACE, what).int
    milliseconds = max(0, int(created_at.timestamp() * 1000)) & ((1 << 48) - 1)
    number = milliseconds << 80 | 7 << 76 | (digest >> 64 & 0xFFF) << 64
    number |= 2 << 62 | digest & ((1 << 62) - 1)
    if isinstance(short_id, str) and re.fullmatch(r"[0-9a-f]{8}", short_id):
        number = number >> 32 << 32 | int(short_id, 16)
    return UUID(int=number)
