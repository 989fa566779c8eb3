"""The shim in place of the first system's bridge.py, and the way back."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from persona_pg import wholefile
from persona_pg.errors import ConfigurationError
from persona_pg.resources import bin_directory

if TYPE_CHECKING:
    from pathlib import Path

# The second line of every shim, by which it is known again.
_MARK = "# The door of Persona PG, put here by: persona-migrate install-bridge"
_SHIM = """\
#!/usr/bin/env python3
{mark}
# persona-migrate install-bridge --undo brings back what was here before.
import os
import sys

BRIDGE = {bridge!r}
try:
    os.execv(BRIDGE, [BRIDGE, *sys.argv[1:]])
except OSError as error:
    print('{{"error": "persona-bridge cannot be started: %s"}}' % error.strerror)
    sys.exit(1)
"""


def install(root: Path, *, dry_run: bool = False) -> str:
    """Put the shim where the first system's bridge.py is; returns what was done."""
    target = _target(root)
    bridge = bin_directory() / "persona-bridge"
    text = _SHIM.format(mark=_MARK, bridge=str(bridge))
    kept = _kept(target)
    if _is_shim(target):
        if target.read_text(encoding="utf-8") == text:
            return f"{target} is the shim already"
        done = f"{target} now leads to {bridge}"
    elif target.exists() or target.is_symlink():
        if (kept.exists() or kept.is_symlink()) and not _is_same(kept, target):
            raise ConfigurationError(
                f"'{kept}' is there already, and '{target}' is not our shim: one of the two would"
                " be lost; move one away first"
            )
        done = f"{target} is the shim now; the old file is kept as {kept.name}"
        if not dry_run:
            _keep(target, kept)
    else:
        done = f"{target} is the shim now"
    if dry_run:
        return f"would do: {done}"
    target.parent.mkdir(parents=True, exist_ok=True)
    wholefile.write(target, text.encode(), 0o755)
    return done


def undo(root: Path, *, dry_run: bool = False) -> str:
    """Bring back what was there before the shim; returns what was done."""
    target = _target(root)
    kept = _kept(target)
    if not _is_shim(target):
        return f"{target} is not our shim: nothing to undo"
    if kept.exists() or kept.is_symlink():
        if not dry_run:
            kept.replace(target)
        done = f"{target} is the old file again"
    else:
        if not dry_run:
            target.unlink()
        done = f"{target} is gone; there was none before"
    return f"would do: {done}" if dry_run else done


def _target(root: Path) -> Path:
    if not root.is_dir():
        raise ConfigurationError(f"--persona-root: '{root}' is no folder")
    return root / "python" / "persona" / "bridge.py"


def _kept(target: Path) -> Path:
    return target.with_name(target.name + ".orig")


def _keep(target: Path, kept: Path) -> None:
    """Give the old file a second name: at no moment is there no bridge for a caller."""
    if kept.exists():
        return  # a run before this one was cut off here
    try:
        os.link(target, kept, follow_symlinks=False)
    except OSError:  # a filesystem without hard links
        shutil.copy2(target, kept, follow_symlinks=False)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _is_shim(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return _MARK in (file.readline() + file.readline())
    except (OSError, UnicodeDecodeError):
        return False
