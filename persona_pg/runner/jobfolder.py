"""Where a runner keeps the sockets of its jobs, and the program with which they use them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The address of a unix socket ends at 108 bytes on Linux, at 104 on macOS.
_LONGEST_PATH = 100
_SUFFIX = ".sock"


class JobFolder:
    """A private folder with short paths, the same at each start of the same runner."""

    def __init__(self, home: Path, name: str, environ: Mapping[str, str]) -> None:
        digest = hashlib.blake2s(f"{home}\0{name}".encode(), digest_size=4).hexdigest()
        self._count = 0
        self.sockets = _private(_candidates(home, digest, environ))
        self._clear()
        self.programs = home / "run" / digest
        self.programs.mkdir(parents=True, exist_ok=True)
        self._write_program(Path(__file__).resolve().parent.parent / "job_client.py")

    def new_path(self) -> str:
        """Return the path of a socket that is to be made."""
        self._count += 1
        return f"{self.sockets}/{self._count:x}{_SUFFIX}"

    def close(self) -> None:
        """Leave nothing behind where others may look."""
        self._clear()
        with contextlib.suppress(OSError):
            self.sockets.rmdir()

    def _clear(self) -> None:
        # What is here was left by a runner of our name that was killed: we hold its lock.
        for path in self.sockets.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _write_program(self, client: Path) -> None:
        """Write persona-job, which needs to look for nothing: its Python is ours."""
        line = shlex.join([sys.executable, "-I", "-S", "-B", str(client)])
        temporary = self.programs / f".persona-job.{os.getpid()}"
        temporary.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(self.programs / "persona-job")


def _candidates(home: Path, digest: str, environ: Mapping[str, str]) -> Iterator[Path]:
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / f"persona-{digest}"
    if sys.platform == "linux":
        # In memory: a socket on a disk's file system took ten times as long (1.5 ms under load).
        yield Path(f"/dev/shm/persona-{os.getuid()}-{digest}")  # noqa: S108 - checked to be ours
    yield home / "run" / digest / "sockets"
    yield Path(tempfile.gettempdir()) / f"persona-{os.getuid()}-{digest}"


def _private(candidates: Iterator[Path]) -> Path:
    """Return the first folder that can be ours alone, and whose paths are short enough."""
    for folder in candidates:
        if len(os.fsencode(folder)) > _LONGEST_PATH - len(_SUFFIX) - 9:
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_ours and stat.S_IMODE(found.st_mode) == 0o700:
            return folder
    return Path(tempfile.mkdtemp(prefix="persona-"))
