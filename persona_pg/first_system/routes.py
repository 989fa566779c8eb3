"""config/env.md: which heading of a daily note belongs to which business."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from persona_pg.first_system.reading import read_text

if TYPE_CHECKING:
    from pathlib import Path

    from persona_pg.first_system.report import FileReport
    from persona_pg.first_system.writer import Writer

_SETTING = "note_routes"


def read(root: Path) -> dict[str, str]:
    """Return the names and values of config/env.md under PERSONA_ROOT; nothing without it."""
    path = root / "config" / "env.md"
    return read_file(path) if path.is_file() else {}


def read_file(path: Path) -> dict[str, str]:
    """Return the 'name: value' lines of the file; what begins with # is a heading or a remark."""
    found = {}
    for line in read_text(path).splitlines():
        match = re.fullmatch(r"[ \t]*(?:[-*+] )?([A-Za-z][\w -]*?)[ \t]*:[ \t]*(\S.*?)[ \t]*", line)
        if match is not None:
            found[match[1].lower()] = match[2].strip("`\"'")
    return found


def save(writer: Writer, found: dict[str, str], report: FileReport) -> None:
    """Add the routes to the setting; one that is there already stays."""
    wanted = {
        key.removeprefix("header_"): value
        for key, value in found.items()
        if key.startswith("header_") and key != "header_"
    }
    existing = writer.setting(_SETTING)
    if found.get("routing_enabled", "true").lower() != "true":
        _skip_all(wanted, "routing was switched off (routing_enabled)", report)
    elif not isinstance(existing, dict):
        _skip_all(wanted, f"this schema has no setting {_SETTING}: persona db migrate", report)
    else:
        _add(writer, existing, wanted, report)
    _advise(found, report)


def _add(
    writer: Writer, existing: dict[str, str], wanted: dict[str, str], report: FileReport
) -> None:
    new = {key: value for key, value in wanted.items() if key not in existing}
    for key, value in wanted.items():
        if existing.get(key) == value:
            report.unchanged += 1
        elif key in existing:
            report.skip(key, f"it leads to another business already ({existing[key]})")
    if new:
        writer.set_setting(_SETTING, existing | new)
        report.imported = len(new)


def _skip_all(wanted: dict[str, str], reason: str, report: FileReport) -> None:
    for key in wanted:
        report.skip(key, reason)


def _advise(found: dict[str, str], report: FileReport) -> None:
    """Say what of the file is set elsewhere here."""
    if default := found.get("default_instance"):
        report.notes.append(f"default_instance: set PERSONA_BUSINESS={default}")
    if most := found.get("max_concurrent_tasks"):
        report.notes.append(
            f"max_concurrent_tasks: persona agents edit assistant --max-concurrent {most}"
        )
    for key in ("claude_path", "gemini_path", "jules_path"):
        if found.get(key, "").startswith("/"):
            report.notes.append(f"{key}: the folder of {found[key]} has to be on the runner's PATH")
