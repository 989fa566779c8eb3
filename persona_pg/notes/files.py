"""Reading notes that others write at the same time, and writing without disturbing them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 50_000_000
_TRIES = 3
_BOM = "\ufeff"


class Unreadable(Exception):
    """A note is there and cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Content:
    """A note as it was at one moment."""

    data: bytes
    signature: tuple[int, ...]
    mode: int

    @property
    def text(self) -> str:
        """Return the text; what is no UTF-8 becomes the replacement character."""
        return decode(self.data)


def decode(data: bytes) -> str:
    """Read UTF-8, with or without a byte order mark, broken or not."""
    return data.decode("utf-8", "replace").removeprefix(_BOM)


def signature(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a note does; None where there is no note."""
    try:
        return _signature(path.stat())
    except OSError:
        return None


def read(path: Path) -> Content | None:
    """Read a note at one moment; None where there is none, or it goes while we look."""
    for _ in range(_TRIES):
        try:
            content = _read_once(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise Unreadable(exc.strerror or str(exc)) from None
        if signature(path) == content.signature:
            return content
    # Somebody writes all the time: the next scan sees the rest.
    return content


def _read_once(path: Path) -> Content:
    # Not blocking: a pipe that bears a note's name must not hold us up.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES // 1_000_000} MB")
    return Content(data, _signature(before), stat.S_IMODE(before.st_mode))


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def create(path: Path, data: bytes) -> bool:
    """Write a new file, whole or not at all; False where there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, data, 0o666) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without hard links: exclusive, though not in one step.
            return _create_in_place(path, data)
    return True


def _create_in_place(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def replace(path: Path, expected: Content, data: bytes) -> bool:
    """Put new content in place of what was read; False where somebody has changed it since."""
    target = path.resolve()  # a note may be a symbolic link: that stays
    with _temporary(target, data, expected.mode) as temporary:
        try:
            now = _read_once(target)
        except OSError:
            return False
        if now.signature != expected.signature or now.data != expected.data:
            return False
        temporary.chmod(expected.mode)
        temporary.replace(target)
    return True


@contextlib.contextmanager
def _temporary(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Write a hidden file beside a path, which Obsidian does not show; it is gone afterwards."""
    temporary = path.with_name(f".persona-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
