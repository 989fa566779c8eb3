"""Finding the program of a job where the job would, and what is said where it cannot be run."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SpawnErrorKind = Literal[
    "not_found", "not_executable", "bad_cwd", "too_big", "invalid", "resources", "failed"
]

# Where a program was found is believed for so long: a PATH of twelve folders is 12 looks a job.
_FOUND_SECONDS = 1.0
_FOUND_AT_MOST = 200
NO_INTERPRETER = "the interpreter in its first line was not found"
# As much of a script's first line as the kernel reads.
_SHEBANG_BYTES = 256
_found: dict[tuple[str, str, str], tuple[str, float]] = {}


class SpawnError(Exception):
    """The program could not be started; nothing of it has run."""

    def __init__(self, kind: SpawnErrorKind, message: str, program: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.program = program

    @property
    def is_transient(self) -> bool:
        """Whether the machine, not the job, is what failed."""
        return self.kind == "resources"

    def words(self, runner: str) -> str:
        """Say what is wrong, and where: another runner may have the program."""
        if self.kind == "not_found":
            return f"program '{self.program}' not found on PATH of runner {runner}"
        return str(self)


def find_program(name: str, env: Mapping[str, str], cwd: str | Path | None = None) -> str:
    """Return the path of a program, as the child with this PATH and directory would find it."""
    base = os.fspath(cwd) if cwd is not None else ""
    if os.sep in name:
        return _first_program([os.path.join(base, name)], name)  # noqa: PTH118 "./x" keeps its dot
    path = env.get("PATH", os.defpath)
    key = name, path, base
    found, until = _found.get(key, ("", 0.0))
    now = time.monotonic()
    if now < until and os.access(found, os.X_OK):
        return found
    folders = path.split(os.pathsep)
    found = _first_program([os.path.join(base, part, name) for part in folders], name)  # noqa: PTH118
    if len(_found) >= _FOUND_AT_MOST:
        _found.clear()
    _found[key] = found, now + _FOUND_SECONDS
    return found


def check_interpreter(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | Path | None = None
) -> None:
    """Refuse a script whose interpreter is missing: a launcher would only say so as the job."""
    if not argv or (cwd is not None and not os.path.isdir(cwd)):  # noqa: PTH112 a hot path
        return  # what starts it says what is wrong
    name = argv[0]
    try:
        with open(find_program(name, env, cwd), "rb") as file:  # noqa: PTH123 a hot path
            first = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return  # it may be run, and not read
    if first.startswith(b"#!") and (words := first[2:].split(maxsplit=1)):
        interpreter = os.fsdecode(words[0])
        if not os.path.exists(os.path.join(cwd or "", interpreter)):  # noqa: PTH110, PTH118 as above
            raise SpawnError(
                "not_executable", f"program '{name}' cannot be run: {NO_INTERPRETER}", name
            )


def _first_program(candidates: list[str], name: str) -> str:
    seen = None
    for candidate in candidates:
        try:
            mode = os.stat(candidate).st_mode  # noqa: PTH116 a hot path
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and os.access(candidate, os.X_OK):
            return candidate
        seen = seen or candidate
    if seen is not None:
        raise SpawnError("not_executable", f"program '{seen}' is not executable", name)
    where = "" if os.sep in name else " on PATH"
    raise SpawnError("not_found", f"program '{name}' not found{where}", name)
