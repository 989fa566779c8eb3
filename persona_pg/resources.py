"""Finds the files that travel beside the Python code: db/ and bin/.

A wheel carries them as persona_pg/_db and persona_pg/_bin.  In a checkout, also
one that is installed in editable mode, they are the folders next to persona_pg/.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def db_directory() -> Path:
    """Return the folder with install.sql, migrations, functions and views."""
    return _find("db", "install.sql")


def bin_directory() -> Path:
    """Return the folder with the shell wrappers."""
    return _find("bin", "")


def checkout_root() -> Path | None:
    """Return the folder of the checkout this code runs from; None for an installed wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "db").is_dir() else None


def _find(name: str, marker: str) -> Path:
    # The checkout first: there an old build may have left a stale copy inside the package.
    root = checkout_root()
    candidates = [] if root is None else [root / name]
    candidates.append(_PACKAGE / f"_{name}")
    for candidate in candidates:
        if candidate.is_dir() and (candidate / marker).exists():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(f"persona-pg is not installed completely: no {name} folder at {looked}")
